"""A data set of the Hub, from the library's own cache: a stand-in for the Hub."""

from pathlib import Path

import huggingface_hub.constants
import pandas as pd
import pytest

from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.data.draft import draft_layout
from ablation.data.hub import fetch

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
