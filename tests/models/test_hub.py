"""`ablation push`, against a local stand-in for the Hugging Face Hub: no test asks the real one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ablation.core.errors import UsageError
from ablation.models.exported import read_model, write_ensemble, write_model
from ablation.models.hub import card_of_repo, check_repo, list_files
from ablation.models.predictor import single
from tests.models.hub_stand_in import HubStandIn
from tests.models.test_exported import WORDS, make

TOKEN = "hf_QwErTzUiOpAsDfGhJkLy"
REPO = "ann/intimacy"
CARD = '---\nlibrary_name: sentence-transformers\n---\n\nSentenceTransformer("PATH")\n'


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    hub = HubStandIn(TOKEN, "ann")
    yield hub
    hub.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "mse-dev1-seed0"
    write_model(folder, make())
    (folder / "README.md").write_text(CARD)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "secret").write_text("hidden")
    (folder / "linked").symlink_to("/etc/hostname")
    return folder


def write_report(folder: Path, *, texts: bool) -> Path:
    folder.mkdir()
    (folder / "report.html").write_text("<h1>Ablation report</h1>")
    (folder / "numbers.json").write_text(json.dumps({"choice": {"texts": texts}}))
    return folder


def push(
    endpoint: str, *arguments: object, token: str = TOKEN, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: the library reads its environment once."""
    return subprocess.run(
        [sys.executable, "-m", "ablation", "push", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(Path(str(arguments[0])).parent / "hf"),
            "HF_TOKEN": token,
            **environment,
        },
    )


def test_model_card_and_report_arrive_as_they_are_and_private(
    hub: HubStandIn, model: Path, tmp_path: Path
) -> None:
    report = write_report(tmp_path / "report", texts=False)
    done = push(hub.uri, model, REPO, "--report", report)
    assert done.returncode == 0, done.stderr
    assert f"{hub.uri}/{REPO}" in done.stdout
    assert hub.repos == {REPO: True}
    files = hub.files[REPO]
    assert {"report/report.html", "README.md", "2_Dense/model.safetensors"} <= files.keys()
    assert not [path for path in files if path.startswith(".") or path == "linked"]
    assert f'SentenceTransformer("{REPO}")' in files["README.md"].decode()
    for path, content in files.items():
        target = tmp_path / "downloaded" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    np.testing.assert_array_equal(
        single(read_model(tmp_path / "downloaded")).predict(WORDS),
        single(read_model(model)).predict(WORDS),
    )
    assert TOKEN not in done.stdout + done.stderr
    again = push(hub.uri, model, REPO, "--public")
    assert again.returncode == 0, again.stderr
    assert hub.repos == {REPO: True}  # one that exists stays as private as it was


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: HubStandIn, model: Path) -> None:
    done = push(hub.uri, model, REPO, "--dry-run", token="")
    assert done.returncode == 0, done.stderr
    for file in list_files(model, REPO):
        assert file.path in done.stdout
    assert hub.paths == []


@pytest.mark.parametrize(
    ("repo", "token", "message"),
    [
        (REPO, "", "not signed in"),
        (REPO, "hf_WrOnGwRoNgWrOnG", "token is not accepted"),
        ("bob/intimacy", TOKEN, "may not write to bob/intimacy"),
    ],
)
def test_who_may_not_push_is_told_so_in_one_line_without_the_token(
    hub: HubStandIn, model: Path, repo: str, token: str, message: str
) -> None:
    done = push(hub.uri, model, repo, token=token)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not token or token not in done.stdout + done.stderr
    assert hub.files == {}


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_hub_that_can_not_be_reached_is_one_line(
    hub: HubStandIn, model: Path, offline: str
) -> None:
    hub.close()
    done = push(hub.uri, model, REPO, HF_HUB_OFFLINE=offline)
    assert done.returncode == 1
    assert "can't be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert TOKEN not in done.stdout + done.stderr


def test_a_card_that_the_hub_refuses_is_one_line(hub: HubStandIn, model: Path) -> None:
    (model / "README.md").write_text("no metadata\n")
    done = push(hub.uri, model, REPO)
    assert done.returncode == 1
    assert "no metadata" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert hub.files[REPO] == {}


def test_a_report_with_texts_is_not_published_by_accident(
    hub: HubStandIn, model: Path, tmp_path: Path
) -> None:
    report = write_report(tmp_path / "report", texts=True)
    done = push(hub.uri, model, REPO, "--report", report, "--dry-run")
    assert done.returncode == 2
    assert "--no-texts" in done.stderr
    allowed = push(hub.uri, model, REPO, "--report", report, "--texts", "--dry-run")
    assert "report/report.html" in allowed.stdout


def test_what_is_no_model_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError, match="not a model"):
        list_files(tmp_path, REPO)
    (model / "README.md").unlink()
    with pytest.raises(UsageError, match="no card"):
        list_files(model, REPO)
    for repo in ("intimacy", "a/b/c", "ann/..", "ann/inti macy"):
        with pytest.raises(UsageError, match="repository"):
            check_repo(repo)


def test_an_ensemble_is_pushed_with_its_members_and_its_card_downloads_them(
    model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "together"
    folder.mkdir()
    model.rename(folder / model.name)
    write_ensemble(folder, {model.name: 1.0})
    (folder / "README.md").write_text(CARD)
    paths = [file.path for file in list_files(folder, REPO)]
    assert {"ensemble.json", "README.md", f"{model.name}/2_Dense/config.json"} <= set(paths)
    card = (
        "from sentence_transformers import SentenceTransformer\n"
        'folder = Path("PATH")\nablation predict PATH\n'
    )
    pushed = card_of_repo(card, REPO)
    assert f'Path(snapshot_download("{REPO}"))' in pushed
    assert "import snapshot_download" in pushed
    assert "PATH" not in pushed
