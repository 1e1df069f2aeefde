"""Reading corpora: what is accepted, and one clear line for everything that is not."""

import bz2
import csv
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablation.config.paper_figures import TEST_ROWS, TRAIN_ROWS
from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus, repeated_texts
from ablation.data.reference import MINT
from tests.conftest import some_rows

HEADER = "text,label,language\n"
GOOD = HEADER + "".join(
    f"{language} words {i},{1 + i % 4},{language}\n" for i in range(20) for language in ("en", "fr")
)

GOOD_BUT_FLAT = HEADER + "".join(f"a{i},2,{g}\n" for i in range(20) for g in ("en", "fr"))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(train: str | bytes = GOOD, test: str | bytes | None = None) -> Path:
        for name, content in (("train.csv", train), ("test.csv", test)):
            if content is not None:
                (tmp_path / name).write_bytes(
                    content if isinstance(content, bytes) else content.encode()
                )
        return tmp_path

    return make


WRONG = {
    "empty": ("", r"train\.csv: the file is empty"),
    "only blank lines": ("\n\n\n", r"train\.csv: the file is empty"),
    "only a header": (HEADER, r"train\.csv: no rows below the header"),
    "utf-16": (
        "text,label,language\n".encode("utf-16"),
        r"train\.csv: this is UTF-16; save it as UTF-8",
    ),
    "latin-1": (
        HEADER.encode() + "é,1,fr\n".encode("latin-1"),
        r"train\.csv, line 2: byte 0xe9 is not UTF-8",
    ),
    "binary": (bytes(range(256)), r"train\.csv, line \d+: byte 0x80 is not UTF-8"),
    "a NUL byte": (GOOD + "a\0b,2,en\n", r"train\.csv, line 42: a NUL byte"),
    "gzip": (gzip.compress(GOOD.encode()), r"train\.csv: this is gzip, not \.csv; .*\.csv\.gz"),
    "bzip2": (bz2.compress(GOOD.encode()), r"train\.csv: this is bzip2, .*\.csv\.bz2"),
    "an archive": (b"PK\x03\x04\x14\0", r"train\.csv: this is an Excel file or a zip archive"),
    "Parquet": (b"PAR1\x15\x04\x15", r"train\.csv: this is Parquet, .* end in \.parquet"),
    "a database": (b"SQLite format 3\0\x10", r"train\.csv: this is an SQLite database"),
    "no text column": (
        "label,language\n1,en\n",
        r"line 1: column text is missing \(the header is label,language\)",
    ),
    "no label column": ("text,language\na,en\n", r"line 1: column label is missing"),
    "no language column": ("text,label\na,1\n", r"line 1: column language is missing"),
    "no header": ("hello,1,en\nthere,2,fr\n", r"line 1: column label, language, text is missing"),
    "an extra column": ("text,label,language,id\na,1,en,7\n", r"line 1: unexpected column id"),
    "a column twice": ("text,text,label,language\na,b,1,en\n", r"line 1: a column occurs twice"),
    "semicolons": (
        "text;label;language\na;1;en\n",
        r"the delimiter looks like ';', expected a comma",
    ),
    "tabs": ("text\tlabel\tlanguage\na\t1\ten\n", r"the delimiter looks like '\\t'"),
    "header in capitals": (
        "TEXT,LABEL,LANGUAGE\na,1,en\n",
        r"column label, language, text is missing",
    ),
    "a label that is a word": (GOOD + "a,high,en\n", r"line 42: the label 'high' is not a number"),
    "a label with a comma": (GOOD + 'a,"2,5",en\n', r"line 42: the label '2,5' is not a number"),
    "a label of 0": (GOOD + "a,0,en\n", r"line 42: the label 0 is outside 1 to 5"),
    "a label of 5.1": (GOOD + "a,5.1,en\n", r"line 42: the label 5\.1 is outside 1 to 5"),
    "a negative label": (GOOD + "a,-1,en\n", r"line 42: the label -1 is outside 1 to 5"),
    "a label that is nan": (GOOD + "a,nan,en\n", r"line 42: the label nan is outside 1 to 5"),
    "an infinite label": (GOOD + "a,inf,en\n", r"line 42: the label inf is outside 1 to 5"),
    "an empty label": (GOOD + "a,,en\n", r"line 42: the label is empty"),
    "an empty text": (GOOD + ",2,en\n", r"line 42: the text is empty"),
    "a text of spaces": (GOOD + "   ,2,en\n", r"line 42: the text is empty"),
    "an unknown language": (GOOD + "a,2,Klingon\n", r"line 42: unknown language 'Klingon'"),
    "an empty language": (GOOD + "a,2,\n", r"line 42: unknown language ''"),
    "text and language exchanged": (GOOD + "en,2,a text\n", r"line 42: unknown language 'a text'"),
    "too few fields": (GOOD + "a,2\n", r"line 42: 1 field too few"),
    "too many fields": (
        GOOD + "a, b,2,en\n",
        r"line 42: 1 field too many; quote texts that contain commas",
    ),
    "a quotation mark left open": (
        GOOD + '"a,2,en\nb,3,en\n',
        r"line 42: .*is a quotation mark left open\?",
    ),
    "a stray quotation mark": (GOOD + '"a"b,2,en\n', r"line 42: .*quote texts as CSV does"),
    "a million characters": (
        GOOD + "a" * 1_000_000 + ",2,en\n",
        r"line 42: .*is a quotation mark left open\?",
    ),
    "few rows": (
        "".join(GOOD.splitlines(keepends=True)[:11]),
        r"train\.csv: 10 rows, too few to split; at least 30",
    ),
    "one label": (GOOD_BUT_FLAT, r"every label is 2\.0; there is nothing to learn"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_training_file_is_named_with_line_and_value(
    case: str, folder: Callable[..., Path]
) -> None:
    content, message = WRONG[case]
    with pytest.raises(UsageError, match=message) as error:
        load_corpus(str(folder(content)))
    assert all("train.csv" in problem and "\n" not in problem for problem in error.value.problems)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("name", ["plain", "a, line b", "train.csv, line 1", "test.csv"])
def test_what_the_folder_is_called_does_not_decide_how_its_files_are_read(
    name: str, tmp_path: Path
) -> None:
    folder_path = tmp_path / name
    folder_path.mkdir()
    (folder_path / "train.csv").write_text(GOOD + "a,,en\n")
    with pytest.raises(UsageError, match="line 42: the label is empty"):
        load_corpus(str(folder_path))
    (folder_path / "train.csv").write_text(GOOD)
    (folder_path / "test.csv").write_text(HEADER + "a,,en\n")
    assert not load_corpus(str(folder_path)).has_test_labels


@pytest.mark.parametrize(
    "content",
    [
        'text,label,language,"x\ny"\na,1,en,1\n',
        "text,label,language,\x1b[31mred\na,1,en,1\n",
        '"te\nxt",label,language\na,1,en\n',
        '"te\nxt","te\nxt",label\na,1,en\n',
        GOOD + 'a,"9\n",en\n',
        GOOD + 'a,"9\n\x1b[31m",en\n',
        GOOD + 'a,1,"x\ny"\n',
        ",".join(["x" * 50_000] * 2) + "\n",
        HEADER.strip() + "," + "x" * 5_000 + "\n",
        "text,label," + "x" * 5_000 + "\n",
        GOOD + "a," + "x" * 5_000 + ",en\n",
        GOOD + "a," + "9" * 5_000 + ",en\n",
        GOOD + "a,1," + "x" * 5_000 + "\n",
    ],
)
def test_a_problem_is_one_short_printable_line_whatever_the_file_holds(
    content: str, folder: Callable[..., Path]
) -> None:
    folder_path = folder(content)
    with pytest.raises(UsageError) as error:
        load_corpus(str(folder_path))
    for problem in error.value.problems:
        assert problem.isprintable()
        assert len(problem) < len(str(folder_path)) + 250


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"test\.csv: the file is empty"),
        (HEADER, r"test\.csv: no rows below the header"),
        ("text,label\na,1\n", r"test\.csv, line 1: column language is missing"),
        (b"text,language\n\xe9,fr\n", r"test\.csv, line 2: byte 0xe9 is not UTF-8"),
        (HEADER + "a,6,en\n", r"test\.csv, line 2: the label 6 is outside 1 to 5"),
        ("text,language\na,Klingon\n", r"test\.csv, line 2: unknown language 'Klingon'"),
        ("text,language\na, b,en\n", r"test\.csv, line 2: 1 field too many"),
        ("text,language\n,en\n", r"test\.csv, line 2: the text is empty"),
    ],
)
def test_a_wrong_test_file_is_named_as_well(
    content: str | bytes, message: str, folder: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_corpus(str(folder(GOOD, content)))
    assert len(error.value.problems) == 1


def test_all_problems_are_reported_together(folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError) as error:
        load_corpus(str(folder(GOOD + "a,high,Klingon\n,9,en\n", HEADER + "b,0,xx\n")))
    assert len(error.value.problems) == 6
    assert any("test.csv, line 2" in problem for problem in error.value.problems)


def test_of_very_many_problems_the_first_are_shown_and_the_rest_counted(
    folder: Callable[..., Path],
) -> None:
    with pytest.raises(UsageError, match=r"\.\.\. and 80 more problems") as error:
        load_corpus(str(folder(HEADER + "a,9,en\n" * 100)))
    assert len(error.value.problems) == 21


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("missing", "does not exist"),
        ("file", "is a file"),
        ("empty", r"train\.csv: not found"),
        ("folder.csv", "can't be read"),
        ("a" * 300, "too long"),
    ],
)
def test_a_place_that_is_no_corpus_is_named(where: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.csv" / "train.csv").write_text(GOOD)
    (tmp_path / "folder.csv" / "test.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        load_corpus(str(tmp_path / where))


def test_a_home_folder_that_nobody_has_is_explained() -> None:
    with pytest.raises(UsageError, match=r"^~nobody-of-this-name/corpus: "):
        load_corpus("~nobody-of-this-name/corpus")


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        "\ufeff" + GOOD,
        "sep=,\r\n" + GOOD,
        "\ufeffsep=,\n" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("text,label,language", " text , label , language "),
        GOOD.replace(",fr\n", ", fr\n").replace("en words 0,", ' "en words 0",'),
        "".join(f"\ufeff{line}\n" for line in GOOD.splitlines()),
        GOOD.replace(",en\n", ",English\n").replace(",fr\n", ",FRENCH\n"),
        GOOD + "\n\n",
        GOOD.rstrip("\n"),
        "language,label,text\n"
        + "".join(f"{g},{1 + i % 4},{g} words {i}\n" for i in range(20) for g in ("en", "fr")),
    ],
    ids=[
        "plain",
        "byte-order mark",
        "Excel's line of the delimiter",
        "both",
        "CRLF",
        "spaces in header",
        "quoted after a space",
        "byte-order marks within",
        "names",
        "blank lines",
        "no last newline",
        "order",
    ],
)
def test_harmless_differences_are_accepted_and_give_the_same_rows(
    content: str, folder: Callable[..., Path]
) -> None:
    frame = load_corpus(str(folder(content))).train
    assert len(frame) == 40
    assert frame["text"].iloc[0] == "en words 0"
    assert set(frame["language"]) == {"en", "fr"}
    assert frame["label"].dtype == "float64"


def test_quoted_newlines_commas_and_quotation_marks_are_part_of_the_text(
    folder: Callable[..., Path],
) -> None:
    frame = load_corpus(str(folder(GOOD + '"line one\nline two, ""quoted""",2,en\n'))).train
    assert frame["text"].iloc[-1] == 'line one\nline two, "quoted"'


def test_marks_and_commas_in_a_quoted_text_are_not_read_as_quoted_after_a_space(
    folder: Callable[..., Path],
) -> None:
    rows = '2, "x, y", en\n" ""quoted"" first, ""then"", again",2,en\n "a" b,2,en\n'
    frame = load_corpus(str(folder(GOOD + rows.replace('2, "x, y"', ' "x, y", 2')))).train
    assert frame["text"].tolist()[-3:] == ["x, y", '"quoted" first, "then", again', '"a" b']


def test_the_line_of_a_problem_behind_a_quoted_newline_is_right(
    folder: Callable[..., Path],
) -> None:
    with pytest.raises(UsageError, match="line 44: the label 9"):
        load_corpus(str(folder(GOOD + '"one\ntwo",2,en\na,9,en\n')))


def test_the_papers_language_codes_become_iso_codes(folder: Callable[..., Path]) -> None:
    frame = load_corpus(str(folder(GOOD + "a,2,po\nb,2,sp\nc,2,du\nd,2,Zh\n"))).train
    assert frame["language"].tolist()[-4:] == ["pt", "es", "nl", "zh"]


class TestTestFile:
    def test_it_may_be_missing(self, folder: Callable[..., Path]) -> None:
        corpus = load_corpus(str(folder()))
        assert corpus.test is None
        assert not corpus.has_test_labels

    @pytest.mark.parametrize(
        "content", ["text,language\na,en\nb,ko\n", "text,label,language\na,,en\nb,,ko\n"]
    )
    def test_it_may_lack_labels(self, content: str, folder: Callable[..., Path]) -> None:
        corpus = load_corpus(str(folder(GOOD, content)))
        assert corpus.test is not None
        assert len(corpus.test) == 2
        assert not corpus.has_test_labels

    def test_it_may_not_lack_some_of_them(self, folder: Callable[..., Path]) -> None:
        with pytest.raises(UsageError, match=r"test\.csv: 1 of 2 rows have no label"):
            load_corpus(str(folder(GOOD, "text,label,language\na,,en\nb,2,ko\n")))

    def test_seen_languages_are_those_of_the_training_file(
        self, folder: Callable[..., Path]
    ) -> None:
        corpus = load_corpus(str(folder(GOOD, "text,label,language\na,1,en\nb,2,ko\n")))
        assert corpus.training_languages == ["en", "fr"]
        assert corpus.has_test_labels


def test_the_digest_is_that_of_the_bytes_and_not_of_the_place(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = load_corpus(str(folder()))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train.csv").write_text(GOOD)
    assert load_corpus(str(elsewhere)).digest == first.digest
    (elsewhere / "train.csv").write_text(GOOD.replace("en words 3,", "en words 3!,", 1))
    assert load_corpus(str(elsewhere)).digest != first.digest
    assert len(first.digest) == len(hashlib.sha256().hexdigest())


def test_a_text_too_long_is_named_even_if_another_library_raised_the_field_limit(
    folder: Callable[..., Path],
) -> None:
    limit = csv.field_size_limit(10**9)
    try:
        with pytest.raises(UsageError, match="a text of 200000 characters; is a quotation mark"):
            load_corpus(str(folder(GOOD + "a" * 200_000 + ",2,en\n")))
    finally:
        csv.field_size_limit(limit)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.text(max_size=400).map(lambda t: (HEADER + t).encode("utf-8", "surrogatepass")),
    )
)
def test_whatever_the_bytes_there_is_never_anything_but_a_usage_error(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UsageError):
        load_corpus(str(tmp_path))


def test_repeated_texts_are_counted(folder: Callable[..., Path]) -> None:
    assert (
        repeated_texts(load_corpus(str(folder(GOOD + "en words 0,3,en\nen words 0,3,fr\n"))).train)
        == 2
    )


def test_mint_has_the_papers_counts(mint: Path) -> None:
    corpus = load_corpus(str(mint))
    assert corpus.test is not None
    assert corpus.train["language"].value_counts().to_dict() == {
        code: n for code, n in TRAIN_ROWS.items() if n
    }
    assert corpus.test["language"].value_counts().to_dict() == TEST_ROWS
    assert repeated_texts(corpus.train) == 36
    assert not corpus.has_test_labels
    assert not corpus.synthetic
    assert corpus.reference == MINT
    assert replace(corpus, train=corpus.train.iloc[::-1]).reference == MINT
    assert replace(corpus, train=corpus.train.iloc[1:]).reference is None


def test_rows_are_numbered_as_in_the_file(corpus_folder: Callable[..., Path]) -> None:
    rows = some_rows(20, ("en", "fr"))
    frame = load_corpus(str(corpus_folder(rows))).train
    assert frame.index.tolist() == list(range(40))
    assert frame["text"].tolist() == [text for text, _, _ in rows]
