"""Another task than the paper's, from its files to its report."""

import random
import re
import sys
import tomllib
from html import unescape
from pathlib import Path

import pytest
from pypdf import PdfReader

from ablation.cli.main import main

GENRES = ("news & blogs", "it", "fiction")


def write_rows(file: Path, start: int, count: int) -> None:
    rng = random.Random(start)
    lines = [
        f"{rng.choice(('dull', 'grand', 'fine'))} story {start + i} of {GENRES[i % 3]}\tword {i}\t"
        f"{rng.randint(0, 3) / 3:.3f}\t{GENRES[i % 3]}"
        for i in range(count)
    ]
    file.write_text("story\tword\tdifficulty\tgenre\n" + "\n".join(lines) + "\n")


@pytest.fixture
def task(tmp_path: Path, store_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    (tmp_path / "stories").mkdir()
    for i, (part, count) in enumerate((("train", 120), ("dev", 60), ("test", 180))):
        write_rows(tmp_path / "stories" / f"{part}.tsv", 1000 * i, count)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, command


def test_its_report_speaks_of_this_task_and_of_no_figure_of_the_paper(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "data init stories --second-text word")
    layout = task / "stories" / "corpus.toml"
    layout.write_text(
        layout.read_text().replace('# measures = "words', 'measures = "difficulty" # "')
    )
    run(
        monkeypatch,
        "run --data stories --profile smoke --variants mse,epm,epm+cl --seeds 0,1"
        " --set optimisation.epochs=1",
    )
    assert "Splits: given (the corpus's own development rows)" in capsys.readouterr().out
    html = (task / "report-ablation" / "report.html").read_text("utf-8")
    body = re.sub(r"<style.*?</style>|<script.*?</script>|<img[^>]*>", "", html, flags=re.S)
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())
    for word in ("paper", "intimacy", "language", "Table 3", "Figure 1"):
        assert word.lower() not in text.lower(), word
    for word in (*GENRES, "MSE → EPM", "difficulty", "Error by domain", "0–0.1", "Domains"):
        assert word.lower() in text.lower(), word
    assert len(PdfReader(task / "report-ablation" / "report.pdf").pages) > 3


def test_a_draft_can_be_printed_instead_of_written(
    task: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(task.rglob("*"))
    run(monkeypatch, "data init stories --second-text word --out -")
    assert tomllib.loads(capsys.readouterr().out)["columns"]["second_text"] == "word"
    assert sorted(task.rglob("*")) == before
