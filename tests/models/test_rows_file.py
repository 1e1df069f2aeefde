"""Files of texts come back with the same rows and a score, in every format."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablation.core.errors import UsageError
from ablation.data.formats import TextFormat, read_rows
from ablation.models.predictor import Prediction
from ablation.models.rows_file import (
    WRITABLE,
    delimited,
    read_stream,
    read_texts,
    scored_rows,
    write_rows,
)

FRAME = pd.DataFrame({"id": ["007", "8"], "text": ["good night", "buses, at nine"]})
SCORES = Prediction(np.array([1.5, 2.25], dtype=np.float32), None)


def as_bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "parquet":
        FRAME.to_parquet(buffer)
    elif kind == "jsonl":
        FRAME.to_json(buffer, orient="records", lines=True)
    elif kind == "json":
        FRAME.to_json(buffer, orient="records")
    else:
        FRAME.to_csv(buffer, sep={"csv": ",", "tsv": "\t", "semicolons": ";"}[kind], index=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("csv", "a.csv"),
        ("tsv", "a.tsv"),
        ("semicolons", "a.csv"),
        ("jsonl", "a.jsonl"),
        ("json", "a.json"),
        ("parquet", "a.parquet"),
        ("csv", "a.csv.gz"),
    ],
)
def test_every_format_is_read(kind: str, name: str, tmp_path: Path) -> None:
    content = as_bytes(kind)
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    for rows in (read_texts(file), read_stream(file.read_bytes())):
        assert rows.texts == FRAME["text"].tolist()
        assert [row["id"] for row in rows.rows] == ["007", "8"]
    assert read_texts(file, "id").texts == ["007", "8"]


@pytest.mark.parametrize("ending", WRITABLE)
def test_every_format_is_written_with_all_columns(ending: str, tmp_path: Path) -> None:
    rows = read_stream(as_bytes("csv"))
    columns, scored = scored_rows(rows, SCORES)
    write_rows(tmp_path / f"out{ending}", columns, scored)
    problems: list[str] = []
    table = read_rows(tmp_path / f"out{ending}", TextFormat(), problems)
    assert table is not None
    assert not problems
    assert table.columns == ("id", "text", "prediction")
    assert [float(record.values["prediction"] or 0) for record in table.records] == [1.5, 2.25]
    assert [record.values["id"] for record in table.records] == ["007", "8"]


def test_an_ensembles_spread_is_a_column() -> None:
    rows = read_stream(as_bytes("csv"))
    spread = Prediction(SCORES.score, np.array([0.1, 0.2], dtype=np.float32))
    columns, scored = scored_rows(rows, spread)
    assert columns[-2:] == ["prediction", "spread"]
    assert delimited(columns, scored).splitlines()[1] == "007,good night,1.5,0.1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,id\n,1\nx,2\n ,3\n", r"-, line 2: the text is empty\n-, line 4"),
        (b'{"text": null}\n', "line 1: the text is empty"),
        (b"id,words\n1,x\n", r"no column 'text'.*--text"),
        (b"id,text,prediction\n1,x,2\n", "column 'prediction' already"),
        (b"", "the file is empty"),
        (b"text,id\n\xff\xfe\x00,2\n", "NUL"),
    ],
)
def test_what_can_not_be_scored_is_named_with_its_line(content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_stream(content)


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_texts(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="ends in"):
        write_rows(tmp_path / "a.doc", ["text"], [])


TEXT = st.text(min_size=1).filter(
    lambda text: text.strip() and not {"\0", "\ud800"} & set(text) and text.isprintable()
)


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_any_texts_survive_json_lines(texts: list[str]) -> None:
    content = "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts)
    assert read_stream(content.encode()).texts == [text.strip() for text in texts]
