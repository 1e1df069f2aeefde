"""Shared fixtures: no network, small corpora, nothing written outside temporary folders."""

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Before the libraries are imported: none of them may ask the network for anything.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = (
    "false"  # seven processes of every server, for evaluations of language models
)
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as the package sets it; tests run side by side
for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
    os.environ.pop(name, None)

import psutil
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

#: (text, label, language); a label of None leaves the column out of the file.
Row = tuple[str, float | None, str]

#: The real data, where a checkout has them beside it.
MINT = Path(__file__).resolve().parents[2] / "shared" / "data" / "mint"
OTHER = MINT.parent / "other"

torch.set_num_threads(1)
# Shapes and types of annotations are checked at each call. Before the package is imported.
install_import_hook("ablation.training", "beartype.beartype")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one worker more than cores: tests of servers and signals wait for much of their time.

    Each may take 3 GB.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min((cores or 1) + 1, psutil.virtual_memory().total // (3 * 2**30), 16))


# An example may take any time: a slow or busy machine is no error of the code. Examples depend on
# the test alone, so that what passed once passes again; new ones: --hypothesis-profile search.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000, print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test with one thread of torch, and with two, which share a batch."""
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mint() -> Path:
    if not (MINT / "train.csv").is_file():
        pytest.skip(
            f"MINT is not part of the repository; put its train.csv and test.csv into {MINT}"
        )
    return MINT


@pytest.fixture(scope="session")
def other_corpora() -> Path:
    if not OTHER.is_dir():
        pytest.skip(
            f"other published corpora are not part of the repository; put them into {OTHER}"
        )
    return OTHER


def write_corpus(folder: Path, train: Sequence[Row], test: Sequence[Row] | None = None) -> Path:
    """A corpus folder in MINT's format with these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train.csv", train), ("test.csv", test)):
        if rows is None:
            continue
        labelled = rows[0][1] is not None
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label", "language"] if labelled else ["text", "language"])
            writer.writerows([(t, y, g) if labelled else (t, g) for t, y, g in rows])
    return folder


def some_rows(count: int, languages: Sequence[str], start: int = 0) -> list[Row]:
    """`count` different rows for each language, with labels from 1 to 5 that depend on the text."""
    return [
        (
            f"{language} post number {start + i} {'love ' * (i % 5)}".strip(),
            1.0 + (i % 5) * 0.9,
            language,
        )
        for i in range(count)
        for language in languages
    ]


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus below the test's folder: `corpus_folder(train_rows, test_rows=None)`."""

    def make(train: Sequence[Row], test: Sequence[Row] | None = None) -> Path:
        return write_corpus(tmp_path / "corpus", train, test)

    return make


@pytest.fixture
def small_corpus(corpus_folder: Callable[..., Path]) -> Path:
    """20 rows in each of four languages, and a labelled test file with a fifth, unseen language."""
    seen = ("en", "es", "fr", "zh")
    return corpus_folder(some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy an empty SQLite store: creating its tables takes seconds."""
    from ablation.tracking.store import open_store

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    assert open_store(
        f"sqlite:///{file}"
    ).client  # a store that nothing was asked of has no tables yet
    return file


@pytest.fixture
def store_uri(empty_store: Path, tmp_path: Path) -> str:
    """A fresh store of the test's own."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints and claims of the tests stay out of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("state")
        patch.setenv("ABLATION_STATE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a browser; absent, a test skips and says how to get one, and in CI it fails."""
    found = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if found is None:
        message = "no Chromium: on Debian, apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found
