"""Drafts of descriptions: what values say is guessed, and what they don't is left open."""

from pathlib import Path

import pytest

from ablation.core.errors import UsageError
from ablation.data.columns import are_languages, outward
from ablation.data.corpus import load_corpus
from ablation.data.draft import Choices, draft_layout


def rows(header: str, line: str, count: int = 60) -> str:
    body = "".join(
        line.format(i=i, label=i % 4, score=f"{0.5 * (i % 7):g}".replace(".", ","), g="abc"[i % 3])
        + "\n"
        for i in range(count)
    )
    return f"{header}\n{body}"


def test_a_draft_is_a_description_that_loads(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(rows("id,words,genre,y", "{i},some words {i},{g},{label}"))
    (tmp_path / "test.csv").write_text(rows("id,words,genre", "{i},other words {i},{g}"))
    draft = draft_layout(tmp_path)
    assert draft.open_questions == ()
    (tmp_path / "corpus.toml").write_text(draft.text)
    corpus = load_corpus(str(tmp_path))
    assert corpus.layout == draft.layout
    assert corpus.layout.columns.group == ("genre",)
    assert corpus.layout.label_range == (0, 3)
    assert corpus.test is not None
    assert not corpus.has_test_labels


def test_semicolons_and_decimal_commas_are_seen(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(
        rows("text;rating", "schöne Wörter {i};{score}").encode("cp1252")
    )
    layout = draft_layout(tmp_path).layout
    assert (layout.files.delimiter, layout.files.decimal) == (";", ",")
    assert layout.files.encoding == "cp1252"
    assert layout.label_range == (0, 3)


def test_stray_quotation_marks_are_part_of_texts(tmp_path: Path) -> None:
    lines = rows("text\tlabel", '"a quotation {i}\t{label}')
    (tmp_path / "a.tsv").write_text(lines)
    assert draft_layout(tmp_path).layout.files.quoting == "none"
    assert load_corpus(str(tmp_path / "a.tsv")).train["text"].iloc[0] == '"a quotation 0'


def test_several_scales_are_left_for_the_user_to_choose_from(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,rating,likes\n" + "".join(f"words {i},{i % 4},{10 * (i // 2)}\n" for i in range(60))
    )
    draft = draft_layout(tmp_path)
    assert any("rating (from 0 to 3), likes (from 0 to 290)" in q for q in draft.open_questions)
    with pytest.raises(UsageError, match="name the column to predict"):
        load_corpus(str(tmp_path / "a.csv"))
    chosen = draft_layout(tmp_path, Choices(label=("rating",), label_range=(0.0, 5.0)))
    assert chosen.layout.columns.label == ("rating",)
    assert chosen.layout.label_range == (0, 5)


def test_columns_named_as_a_pair_are_one(tmp_path: Path) -> None:
    (tmp_path / "sts.csv").write_text(
        rows("sentence1,sentence2,score", "one text {i},another text {i},{label}")
    )
    columns = draft_layout(tmp_path).layout.columns
    assert (columns.text, columns.second_text) == (("sentence1",), ("sentence2",))


def test_a_file_of_rows_is_a_corpus_and_its_guesses_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "\n".join(f'{{"text": "words {i}", "label": {i % 4}}}' for i in range(60))
    )
    corpus = load_corpus(str(tmp_path / "a.jsonl"))
    assert len(corpus.train) == 60
    assert any('columns.text = "text"' in remark for remark in corpus.remarks)


@pytest.mark.parametrize("name", ["text", "nothing"])
def test_a_column_that_no_file_has_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(rows("words,y", "words {i},{label}"))
    with pytest.raises(UsageError, match=f"no column {name}"):
        draft_layout(tmp_path, Choices(text=name))


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Just words.\n")
    with pytest.raises(UsageError, match="no file of rows"):
        draft_layout(tmp_path)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["amh", "ptbr", "eng"], True),
        (["English", "French"], True),
        (["fr-CA", "yo"], True),
        (["news", "blog"], False),
        (["bible", "en"], False),
        ([], False),
    ],
)
def test_groups_are_languages_if_most_are_known(groups: list[str], expected: bool) -> None:
    assert are_languages(groups) is expected


@pytest.mark.parametrize(
    ("ends", "scale"),
    [((1.2, 4.6), (1, 5)), ((0, 0.875), (0, 1)), ((3, 97.5), (0, 100)), ((-0.9, 0.8), (-1, 1))],
)
def test_a_scale_is_rounded_outward(ends: tuple[float, float], scale: tuple[float, float]) -> None:
    assert outward(*ends) == scale


def test_files_without_a_line_of_names_are_seen(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "".join(
            f"news\t{i % 6}.5\tone text of several words, {i}\tanother text of words, {i}\n"
            for i in range(60)
        )
    )
    draft = draft_layout(tmp_path)
    layout = draft.layout
    assert layout.files.header == ("column1", "column2", "column3", "column4")
    assert layout.columns.label == ("column2",)
    assert layout.columns.second_text == ()
    assert '# second_text = "column4"' in draft.text
    (tmp_path / "corpus.toml").write_text(draft.text)
    assert len(load_corpus(str(tmp_path)).train) == 60


def test_a_word_among_numbers_is_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "text,y\n" + "".join(f"words {i},{'NA' if i % 5 == 0 else i % 4}\n" for i in range(60))
    )
    layout = draft_layout(tmp_path).layout
    assert (layout.rows.empty, layout.rows.without_label) == (("NA",), "drop")
    assert len(load_corpus(str(tmp_path / "a.csv")).train) == 48


def test_folders_and_words_in_file_names_are_groups(tmp_path: Path) -> None:
    for language in ("en", "yo"):
        (tmp_path / language).mkdir()
        for part in ("train", "test"):
            (tmp_path / language / f"{part}.csv").write_text(
                rows("id,t,y", "{i},words {i},{label}")
            )
    draft = draft_layout(tmp_path)
    assert draft.layout.group.from_file_name
    assert draft.layout.columns.label == ("y",)
    (tmp_path / "corpus.toml").write_text(draft.text)
    corpus = load_corpus(str(tmp_path))
    assert corpus.training_languages == ["en", "yo"]
    assert corpus.test is not None
    assert set(corpus.test["language"]) == {"en", "yo"}
