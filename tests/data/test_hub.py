"""Data sets of the Hub: from the library's own cache, and from a local stand-in for the Hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pandas as pd
import pytest

from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.data.draft import draft_layout
from ablation.data.hub import fetch
from tests.data import hub_server
from tests.data.hub_server import DataSetHub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the snapshot of org/ratings in a cache of the Hub's, as `datasets` publishes rows."""
    root = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root))
    repo = root / "datasets--org--ratings"
    snapshot = repo / "snapshots" / COMMIT
    (snapshot / "data").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for part, count in (("train", 60), ("validation", 20), ("test", 30)):
        for shard in (0, 1):
            rows = [{"text": f"words {part} {shard} {i}", "score": i % 4} for i in range(count)]
            file = snapshot / "data" / f"{part}-0000{shard}-of-00002.parquet"
            pd.DataFrame(rows).to_parquet(file)
    (snapshot / "README.md").write_text("# Ratings")
    return snapshot


def test_its_rows_are_guessed_and_its_commit_is_said(cache: Path) -> None:
    corpus = load_corpus("hub:org/ratings")
    assert corpus.name == "ratings"
    assert (len(corpus.training_rows), corpus.given_dev) == (120, 40)
    assert corpus.test is not None
    assert len(corpus.test) == 60
    assert corpus.layout.group.kind == "none"
    assert any(COMMIT in remark for remark in corpus.remarks)
    assert load_corpus(f"hub:org/ratings@{COMMIT}").digest == corpus.digest


def test_a_draft_of_it_is_a_description_that_holds_its_commit(cache: Path, tmp_path: Path) -> None:
    folder, pinned = fetch("hub:org/ratings")
    text = draft_layout(folder, beside=folder, hub=pinned).text
    (tmp_path / "corpus.toml").write_text(text)
    assert f'hub = "hub:org/ratings@{COMMIT}"' in text
    assert str(tmp_path) not in text
    described = load_corpus(str(tmp_path))
    assert described.train["text"].tolist() == load_corpus("hub:org/ratings").train["text"].tolist()


def test_a_data_set_that_describes_itself_is_not_guessed(cache: Path) -> None:
    (cache / "corpus.toml").write_text(
        '[files]\ntrain = "data/train-*.parquet"\n[columns]\nlabel = "score"\n'
        "[label]\nlowest = 0\nhighest = 10\n"
    )
    corpus = load_corpus("hub:org/ratings")
    assert corpus.layout.label_range == (0, 10)
    assert corpus.test is None


@pytest.mark.parametrize("name", ["hub:org/other", f"hub:org/ratings@{'f' * 40}"])
def test_without_a_network_it_is_one_line(cache: Path, name: str) -> None:
    with pytest.raises(UsageError, match="can't be fetched from the Hugging Face Hub") as caught:
        load_corpus(name)
    (line,) = caught.value.problems
    assert "\n" not in line
    assert "give the folder" in line


@pytest.mark.parametrize("name", ["hub:", "hub:ratings", "hub:a/b/c", "hub:org/"])
def test_a_name_that_can_be_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="write hub:ORGANISATION/NAME"):
        load_corpus(name)


TOKEN = "hf_ZuIoPaSdFgHjKlYxCv"
ROWS = "text,score\n" + "".join(f"words number {i},{i % 4}\n" for i in range(60))


@pytest.fixture
def hub() -> Iterator[DataSetHub]:
    hub = DataSetHub(TOKEN)
    hub.files["ann/ratings"] = {
        "README.md": b"# Ratings",
        "train.csv": ROWS.encode(),
        "ratings.py": b"raise SystemExit('code of a data set was run')",
        "model.safetensors": b"0" * 100,
    }
    yield hub
    hub.close()


def data(
    home: Path, endpoint: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `ablation data` in a process of its own: the library reads its environment once."""
    return subprocess.run(
        [sys.executable, "-m", "ablation", "data", *arguments],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(home),
            **environment,
        },
    )


def unpinned(text: str) -> str:
    return text.replace(f"@{hub_server.COMMIT}", "")


def test_rows_are_downloaded_once_and_then_read_without_the_hub(
    hub: DataSetHub, tmp_path: Path
) -> None:
    first = data(tmp_path, hub.uri, "hub:ann/ratings")
    assert first.returncode == 0, first.stderr
    assert f"hub:ann/ratings@{hub_server.COMMIT}" in first.stdout
    fetched = {path.rpartition("/")[2] for path in hub.paths if "/resolve/" in path}
    assert fetched == {"train.csv"}
    hub.close()
    for name in ("hub:ann/ratings", f"hub:ann/ratings@{hub_server.COMMIT}"):
        again = data(tmp_path, hub.uri, name)
        assert again.returncode == 0, again.stderr
        assert unpinned(again.stdout) == unpinned(first.stdout)


def test_a_private_data_set_takes_its_token_and_never_says_it(
    hub: DataSetHub, tmp_path: Path
) -> None:
    hub.private.add("ann/ratings")
    refused = data(tmp_path, hub.uri, "hub:ann/ratings")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "hub:ann/ratings" in line
    assert "can't be fetched" in line
    allowed = data(tmp_path, hub.uri, "hub:ann/ratings", HF_TOKEN=TOKEN)
    assert allowed.returncode == 0, allowed.stderr
    assert TOKEN not in allowed.stdout + allowed.stderr


def test_a_data_set_of_gigabytes_is_refused_before_it_is_fetched(
    hub: DataSetHub, tmp_path: Path
) -> None:
    hub.sizes["train.csv"] = 3 * 2**30
    refused = data(tmp_path, hub.uri, "hub:ann/ratings")
    assert refused.returncode == 2
    assert "3.0 GiB" in refused.stderr
    assert not [path for path in hub.paths if "/resolve/" in path]


def test_a_hub_that_was_never_reached_is_one_line(hub: DataSetHub, tmp_path: Path) -> None:
    hub.close()
    refused = data(tmp_path, hub.uri, "hub:ann/ratings")
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "check the name and the network" in line


def test_a_draft_of_a_downloaded_data_set_is_pinned(hub: DataSetHub, tmp_path: Path) -> None:
    out = tmp_path / "task.toml"
    drafted = data(tmp_path / "home", hub.uri, "init", "hub:ann/ratings", "--out", str(out))
    assert drafted.returncode == 0, drafted.stderr
    assert json.dumps(f"hub:ann/ratings@{hub_server.COMMIT}") in out.read_text()
