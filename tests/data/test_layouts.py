"""Corpora of other layouts than MINT's: any format, range and group; all problems at once."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus, list_targets, load_corpus
from ablation.data.layout import parse_layout
from ablation.data.rows import UNGROUPED

GENRES = ("news", "fiction", "blog")
ROWS = [
    {"id": f"r{i}", "body": f"text number {i}", "score": 0.5 * (i % 7), "genre": GENRES[i % 3]}
    for i in range(60)
]
LAYOUT = """
[files]
train = "rows{ending}"
{files}
[columns]
text = "body"
label = "score"
group = "genre"
others = "ignored"
[label]
lowest = 0
highest = 3
[group]
kind = "domain"
{more}
"""

Write = Callable[[Path], None]


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS)


def write_excel_csv(file: Path) -> None:
    """Write as a German Excel does: semicolons, decimal commas, cp1252."""
    frame().to_csv(file, sep=";", decimal=",", index=False, encoding="cp1252")


def write_arrow_stream(file: Path) -> None:
    table = pa.Table.from_pandas(frame(), preserve_index=False)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def write_compressed(compress: Callable[[bytes], bytes], file: Path) -> None:
    file.write_bytes(compress(frame().to_csv(index=False).encode()))


FORMATS: Mapping[str, tuple[str, str, Write]] = {
    "csv": (".csv", "", lambda file: frame().to_csv(file, index=False)),
    "tab": (".tsv", "", lambda file: frame().to_csv(file, sep="\t", index=False)),
    "excel's csv": (".csv", 'delimiter = ";"\ndecimal = ","\nencoding = "cp1252"', write_excel_csv),
    "json lines": (
        ".jsonl",
        "",
        lambda file: frame().to_json(file, orient="records", lines=True),
    ),
    "json": (".json", "", lambda file: frame().to_json(file, orient="records")),
    "parquet": (".parquet", "", lambda file: frame().to_parquet(file)),
    "excel": (".xlsx", "", lambda file: frame().to_excel(file, index=False)),
    "arrow": (".arrow", "", lambda file: frame().to_feather(file)),
    "arrow, as datasets saves it": (".arrow", "", write_arrow_stream),
    **{
        f"compressed, {end}": (f".csv.{end}", "", partial(write_compressed, compress))
        for end, compress in (
            ("gz", gzip.compress),
            ("bz2", bz2.compress),
            ("xz", lzma.compress),
        )
    },
}


def described(folder: Path, name: str, more: str = "") -> Corpus:
    ending, files, write = FORMATS[name]
    write(folder / f"rows{ending}")
    (folder / "corpus.toml").write_text(LAYOUT.format(ending=ending, files=files, more=more))
    return load_corpus(str(folder))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    corpus = described(tmp_path, name)
    assert corpus.train["text"].tolist() == [row["body"] for row in ROWS]
    assert corpus.train["label"].tolist() == [row["score"] for row in ROWS]
    assert corpus.train["language"].tolist() == [row["genre"] for row in ROWS]
    assert corpus.layout.label_range == (0, 3)
    assert corpus.training_languages == sorted(GENRES)


def test_the_description_is_part_of_the_digest_and_words_for_reports_are_not(
    tmp_path: Path,
) -> None:
    first = described(tmp_path, "csv")
    renamed = described(tmp_path, "csv", '[task]\nname = "other"\nmeasures = "complexity"')
    wider = (tmp_path / "corpus.toml").read_text().replace("highest = 3", "highest = 4")
    (tmp_path / "corpus.toml").write_text(wider)
    assert first.digest == renamed.digest != load_corpus(str(tmp_path)).digest
    assert renamed.name == "other"


def test_all_problems_are_reported_with_file_line_and_column(tmp_path: Path) -> None:
    described(tmp_path, "csv")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    lines[3] = "r2,,0.5,news"
    lines[5] = "r4,text,much,news"
    lines[7] = "r6,text,3.5,"
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    with pytest.raises(UsageError) as error:
        load_corpus(str(tmp_path))
    assert [problem.split("rows.csv, ")[1] for problem in error.value.problems] == [
        "line 4: the text (column body) is empty",
        "line 6: the label (column score) 'much' is not a number",
        "line 8: the group (column genre) is empty",
        "line 8: the label (column score) 3.5 is outside 0 to 3",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[label]\nlowest = 3\nhighest = 1", "lowest must be below highest"),
        ("[label]\nlowest = 0\nhighest = 1e300", "give them in a larger unit"),
        ("[label]\nlowest = 0\nhighest = 1e-9", "give them in a smaller unit"),
        ("[label]\nlowest = 1e9\nhighest = 1000000001", "or from another zero"),
        ('[files]\ntrian = "x"', "files.trian"),
        ('[columns]\ntext = ""', "columns.text is empty"),
        ('[columns]\nlabel = "text"', "a column is named twice"),
        ('[columns]\ngroup = "g"', 'group.kind is "none", but a group is given'),
        ('[group]\nkind = "domain"', "name columns.group"),
        ('[columns]\nsplit = "s"\n[files]\ntest = "t.csv"', "give one"),
        ('[files]\njoin = "meta.tsv"', "go together"),
        ("[files\n", "not TOML"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_layout(text, "corpus.toml")


def write(folder: Path, layout: str, **files: str) -> Path:
    (folder / "corpus.toml").write_text(layout)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def some_lines(count: int = 40, start: int = 0) -> str:
    return "".join(f"words {i},{i % 4},{i % 5 + 1}\n" for i in range(start, start + count))


TWO_TARGETS = '[files]\ntrain = "a.csv"\n[columns]\nlabel = ["x", "y"]\n[label]\nlowest = 0'


def test_several_targets_are_corpora_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, TWO_TARGETS, a__csv="text,x,y\n" + some_lines())
    x, y = (load_corpus(str(tmp_path), target) for target in ("x", "y"))
    assert x.train["label"].max() == 3
    assert y.train["label"].max() == 5
    assert x.digest != y.digest
    assert (x.name.endswith("-x"), y.name.endswith("-y")) == (True, True)
    with pytest.raises(UsageError, match=r"several targets \(x, y\): choose one"):
        load_corpus(str(tmp_path))
    with pytest.raises(UsageError, match="--target 'z'"):
        load_corpus(str(tmp_path), "z")


def test_targets_are_named_one_by_one_or_all(tmp_path: Path) -> None:
    layout = '[columns]\nlabel = ["V", "A"]\n[files]\ntrain = "a.csv"'
    source = str(write(tmp_path, layout, a__csv="text,V,A\n"))
    assert list_targets(source, "all") == ["V", "A"]
    assert list_targets(source, "A,V,A") == ["A", "V"]
    assert list_targets(source, "A") == ["A"]
    assert list_targets("demo", "") == [""]
    with pytest.raises(UsageError, match="--target 'B'"):
        list_targets(source, "V,B")


def test_rows_without_a_label_are_an_error_or_left_out(tmp_path: Path) -> None:
    rows = "text,label\n" + "".join(f"words {i},{'' if i == 3 else i % 4}\n" for i in range(40))
    layout = '[files]\ntrain = "a.csv"\n[label]\nlowest = 0\n'
    write(tmp_path, layout, a__csv=rows)
    with pytest.raises(UsageError, match="line 5: the label is empty"):
        load_corpus(str(tmp_path))
    write(tmp_path, layout + '[rows]\nwithout_label = "drop"')
    corpus = load_corpus(str(tmp_path))
    assert len(corpus.train) == 39
    assert corpus.remarks == ("1 row without a label: left out",)


def test_a_pair_and_a_weight_are_columns_of_the_rows(tmp_path: Path) -> None:
    layout = (
        '[files]\ntrain = "a.csv"\n[columns]\nsecond_text = "hypothesis"\nweight = "votes"\n'
        "[label]\nlowest = 0"
    )
    rows = "text,hypothesis,label,votes\n" + "".join(
        f"p {i},h {i},{i % 4},{i + 1}\n" for i in range(40)
    )
    corpus = load_corpus(str(write(tmp_path, layout, a__csv=rows)))
    assert corpus.train["second_text"].iloc[2] == "h 2"
    assert corpus.train["weight"].tolist() == [i + 1 for i in range(40)]
    assert set(corpus.train["language"]) == {UNGROUPED}
    write(tmp_path, layout, a__csv=rows.replace(",40\n", ",-1\n"))
    with pytest.raises(
        UsageError, match=r"line 41: the weight \(column votes\) -1 is not a number"
    ):
        load_corpus(str(tmp_path))


def test_the_file_names_of_a_folder_are_groups_and_parts_come_from_folders(tmp_path: Path) -> None:
    for part, codes in (("train", ("amh", "ptbr")), ("dev", ("amh", "ron"))):
        (tmp_path / part).mkdir()
        for i, code in enumerate(codes):
            rows = "text,label\n" + "".join(f"{part} {code} {j},{j % 4}\n" for j in range(20 + i))
            (tmp_path / part / f"{code}.csv").write_text(rows)
    layout = (
        '[files]\ntrain = "train/*.csv"\ndev = "dev/*.csv"\n[label]\nlowest = 0\nhighest = 3\n'
        '[group]\nkind = "language"\nfrom_file_name = true'
    )
    corpus = load_corpus(str(write(tmp_path, layout)))
    assert corpus.training_languages == ["amh", "ptbr"]
    assert corpus.given_dev == 41
    assert set(corpus.train["language"].iloc[-41:]) == {"amh", "ron"}


def test_a_split_column_and_a_joined_file_are_read(tmp_path: Path) -> None:
    layout = (
        '[files]\ntrain = "a.csv"\njoin = "meta.tsv"\njoin_on = "id"\n[columns]\nsplit = "part"\n'
        'group = "genre"\nothers = "ignored"\n[label]\nlowest = 0\n[group]\nkind = "domain"'
    )
    parts = ["train"] * 40 + ["dev"] * 5 + ["test"] * 6
    rows = "id,text,label,part\n" + "".join(
        f"k{i},words {i},{i % 4},{part}\n" for i, part in enumerate(parts)
    )
    meta = "id\tgenre\n" + "".join(f"k{i}\t{GENRES[i % 3]}\n" for i in range(51))
    write(tmp_path, layout, a__csv=rows, meta__tsv=meta)
    corpus = load_corpus(str(tmp_path))
    assert corpus.test is not None
    assert (len(corpus.training_rows), corpus.given_dev, len(corpus.test)) == (40, 5, 6)
    assert corpus.train["language"].iloc[4] == GENRES[1]
    write(tmp_path, layout, meta__tsv=meta.replace("k7\t", "k007\t"))
    with pytest.raises(UsageError, match=r"line 9: no row of meta\.tsv has id 'k7'"):
        load_corpus(str(tmp_path))


def test_a_word_of_the_reports_is_no_name_of_a_group(tmp_path: Path) -> None:
    layout = (
        '[files]\ntrain = "a.csv"\n[columns]\ngroup = "g"\n[label]\nlowest = 0\n'
        '[group]\nkind = "domain"'
    )
    rows = "text,label,g\n" + "".join(
        f"words {i},{i % 4},{('all', 'seen', 'new')[i % 3]}\n" for i in range(60)
    )
    corpus = load_corpus(str(write(tmp_path, layout, a__csv=rows)))
    assert set(corpus.train["language"]) == {"group all", "group seen", "new"}


FINITE = st.floats(-1e6, 1e6, allow_nan=False)
RANGES = (
    st.tuples(FINITE, FINITE)
    .map(sorted)
    .filter(lambda ends: ends[1] - ends[0] >= 1e-3 * max(1, *map(abs, ends)))
)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip())
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data(), st.sampled_from(["csv", "jsonl", "parquet", "tsv"]))
def test_any_texts_range_and_groups_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, form: str
) -> None:
    lowest, highest = data.draw(RANGES)
    labels = [lowest, highest, *(lowest + (highest - lowest) * i / 30 for i in range(29))]
    labels = [min(max(label, lowest), highest) for label in labels]
    groups = data.draw(st.lists(TEXTS, min_size=1, max_size=4))
    rows = [
        {"t": f"{data.draw(TEXTS)} {i}", "l": label, "g": groups[i % len(groups)]}
        for i, label in enumerate(labels)
    ]
    folder = tmp_path_factory.mktemp("any")
    file, table = folder / f"rows.{form}", pd.DataFrame(rows)
    if form == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows))
    elif form == "parquet":
        table.to_parquet(file)
    else:
        table.to_csv(file, sep="\t" if form == "tsv" else ",", index=False)
    (folder / "corpus.toml").write_text(
        f'[files]\ntrain = "rows.{form}"\n[columns]\ntext = "t"\nlabel = "l"\ngroup = "g"\n'
        f'[label]\nlowest = {lowest!r}\nhighest = {highest!r}\n[group]\nkind = "domain"\n'
    )
    train = load_corpus(str(folder)).train
    assert train["text"].tolist() == [str(row["t"]).strip() for row in rows]
    assert train["label"].tolist() == labels
    names = [" ".join(str(row["g"]).split()) for row in rows]
    reserved = {name: f"group {name}" for name in ("all", "seen", "unseen")}
    assert train["language"].tolist() == [reserved.get(name, name) for name in names]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(
        [
            *(".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".xlsx"),
            *(".csv.gz", ".csv.bz2", ".csv.xz"),
        ]
    ),
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
    ),
)
def test_whatever_the_bytes_are_the_answer_is_a_usage_error(
    tmp_path: Path, ending: str, content: bytes
) -> None:
    file = tmp_path / f"rows{ending}"
    file.write_bytes(content)
    (tmp_path / "corpus.toml").write_text(f'[files]\ntrain = "rows{ending}"')
    for source in (tmp_path, file):
        with pytest.raises(UsageError):
            load_corpus(str(source))


def test_real_corpora_as_published_are_read(other_corpora: Path, tmp_path: Path) -> None:
    from ablation.data.draft import draft_layout

    shapes = {}
    for name, target in (("complex", ""), ("emobank", "A"), ("brighter", "disgust")):
        draft = draft_layout(other_corpora / name, beside=tmp_path)
        file = tmp_path / f"{name}.toml"
        file.write_text(draft.text)
        corpus = load_corpus(str(file), target)
        test = 0 if corpus.test is None else len(corpus.test)
        shapes[name] = (
            len(corpus.training_rows),
            corpus.given_dev,
            test,
            corpus.layout.label_range,
        )
        assert np.isfinite(corpus.train["label"]).all()
    assert shapes == {
        "complex": (7662, 421, 917, (0, 1)),
        "emobank": (8062, 1000, 1000, (1, 5)),
        # The English files have no column "disgust", and 114 cells are empty.
        "brighter": (23511 - 2763, 2662 - 115, 0, (0, 3)),
    }
