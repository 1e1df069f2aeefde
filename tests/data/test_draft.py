"""Drafts of descriptions: what values say is guessed, and what they don't is left open."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ablation.core.errors import UsageError
from ablation.data.columns import are_languages, outward
from ablation.data.corpus import Corpus, load_corpus
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


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    """As `DatasetDict.save_to_disk` writes it, with its own JSON files beside the rows."""
    for part, count in (("train", 60), ("test", 20)):
        folder = tmp_path / part
        folder.mkdir()
        table = pa.table(
            {
                "sentence": [f"some words {part} {i}" for i in range(count)],
                "score": [0.5 * (i % 7) for i in range(count)],
                "lang": pa.array([("en", "fr")[i % 2] for i in range(count)]).dictionary_encode(),
            }
        )
        file = folder / "data-00000-of-00001.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        (folder / "state.json").write_text("{}")
        (folder / "dataset_info.json").write_text("{}")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    draft = draft_layout(tmp_path)
    assert draft.open_questions == ()
    assert "left out" not in draft.text
    (tmp_path / "corpus.toml").write_text(draft.text)
    corpus = load_corpus(str(tmp_path))
    assert (len(corpus.train), corpus.training_languages) == (60, ["en", "fr"])
    assert corpus.test is not None
    assert len(corpus.test) == 20


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


def loaded(folder: Path) -> Corpus:
    """Draft a description beside the files, and load the corpus that it describes."""
    (folder / "corpus.toml").write_text(draft_layout(folder).text)
    return load_corpus(str(folder))


class TestPublishedLayouts:
    """Layouts as they are published, each with a trait that a simpler guess would stumble on."""

    def test_a_part_may_be_said_after_a_dot_in_a_file_without_a_line_of_names(
        self, tmp_path: Path
    ) -> None:
        for emotion in ("anger", "joy"):
            for part, count in (("train", 60), ("dev", 20), ("test", 30)):
                (tmp_path / f"{emotion}-ratings-0to1.{part}.txt").write_text(
                    "".join(
                        f"{i}\twords {i} of a tweet\t{emotion}\t0.{i:03}\n" for i in range(count)
                    )
                )
        corpus = loaded(tmp_path)
        assert (len(corpus.training_rows), corpus.given_dev) == (120, 40)
        assert corpus.test is not None
        assert len(corpus.test) == 60
        assert corpus.training_languages == ["anger", "joy"]

    def test_a_word_in_place_of_every_test_label_is_none(self, tmp_path: Path) -> None:
        for part, label in (("train", "0.{i:03}"), ("test", "NONE")):
            lines = (f"x-{i}\twords {i} of a tweet\t{label.format(i=i)}\n" for i in range(60))
            (tmp_path / f"{part}.txt").write_text("".join(lines))
        corpus = loaded(tmp_path)
        assert corpus.test is not None
        assert (len(corpus.test), corpus.has_test_labels) == (60, False)

    def test_lines_may_have_further_fields_between_tabs(self, tmp_path: Path) -> None:
        (tmp_path / "sts-train.csv").write_text(
            "".join(
                f'forum\t{i % 6}.25\t"one text {i} of words\tanother text {i}'
                + ("\thttp://source\tCC" if i % 3 == 0 else "")
                + "\n"
                for i in range(60)
            )
        )
        draft = draft_layout(tmp_path)
        assert draft.layout.files.surplus == "ignored"
        assert len(draft.layout.files.header) == 4
        assert loaded(tmp_path).train["text"].iloc[0] == '"one text 0 of words'

    def test_a_surplus_comma_is_never_cut_off(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(
            "label,text\n" + "".join(f"{i % 4},words{', more' * (i % 2)} {i}\n" for i in range(60))
        )
        with pytest.raises(UsageError, match=r"line 3: 1 field too many"):
            loaded(tmp_path)

    def test_texts_and_labels_may_stand_in_two_files(self, tmp_path: Path) -> None:
        (tmp_path / "gold.tsv").write_text(rows("id\tscore", "d{i}\t{label}"))
        (tmp_path / "texts.tsv").write_text(rows("id\tbody", "d{i}\tsome words of a text {i}"))
        corpus = loaded(tmp_path)
        assert corpus.layout.rows.without_text == "error"
        assert corpus.train["text"].iloc[3] == "some words of a text 3"

    def test_a_file_of_test_labels_alone_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text(rows("id,words,y", "{i},words {i},{label}"))
        (tmp_path / "test_labels.csv").write_text(rows("id,y", "{i},{label}"))
        assert "# left out: " in draft_layout(tmp_path).text
        assert loaded(tmp_path).test is None

    def test_rows_without_a_group_are_a_group(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text(
            "prompt,essay,grade\n"
            + "".join(f"{('p1', 'p2', '')[i % 3]},an essay {i},{i % 45 * 2}\n" for i in range(90))
        )
        corpus = loaded(tmp_path)
        assert corpus.layout.rows.without_group == "keep"
        assert corpus.training_languages == ["no group", "p1", "p2"]
        assert corpus.layout.label_range == (0, 90)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252", "latin-1"])
    def test_encodings_are_seen(self, tmp_path: Path, encoding: str) -> None:
        text = rows("Text\tValenz", "schöne Wörter {i}\t{label}")
        content = text.encode(encoding)
        if encoding == "latin-1":
            content = content.replace(b"sch", b"\x81sch")  # no character of cp1252
        (tmp_path / "export.txt").write_bytes(content)
        assert loaded(tmp_path).train["text"].iloc[0].endswith("schöne Wörter 0")

    @pytest.mark.parametrize(
        "shape",
        [
            lambda items: {"version": 1, "data": items},
            lambda items: {item["id"]: item for item in items},
            lambda items: {key: [item[key] for item in items] for key in items[0]},
            lambda items: {
                key: {str(i): item[key] for i, item in enumerate(items)} for key in items[0]
            },
            lambda items: {"task": {"train": items}},
            lambda items: [
                {"id": item["id"], "body": {"words": item["words"], "y": item["y"]}}
                for item in items
            ],
        ],
        ids=["beside", "by key", "columns", "columns by row", "nested", "objects in rows"],
    )
    def test_json_may_hold_its_rows_in_any_way(
        self, tmp_path: Path, shape: Callable[[list[dict[str, Any]]], Any]
    ) -> None:
        items = [{"id": f"q{i}", "words": f"words of a text {i}", "y": i % 4} for i in range(60)]
        (tmp_path / "corpus.json").write_text(json.dumps(shape(items)))
        train = loaded(tmp_path).train
        assert train["text"].tolist() == [item["words"] for item in items]
        assert train["label"].tolist() == [item["y"] for item in items]

    def test_lists_by_part_in_one_json_are_its_split(self, tmp_path: Path) -> None:
        items = [{"words": f"words of a text {i}", "y": i % 4} for i in range(60)]
        parts = {"train": items[:40], "dev": items[40:50], "test": items[50:]}
        (tmp_path / "all.json").write_text(json.dumps(parts))
        corpus = loaded(tmp_path)
        assert corpus.test is not None
        assert (len(corpus.training_rows), corpus.given_dev, len(corpus.test)) == (40, 10, 10)

    def test_columns_on_about_one_scale_are_several_targets(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text(
            "text,V,A,n\n" + "".join(f"words {i},{1 + i % 5},{2 + i % 4},1\n" for i in range(60))
        )
        layout = draft_layout(tmp_path).layout
        assert (layout.columns.label, layout.label_range) == (("V", "A"), (1, 5))

    def test_a_description_elsewhere_names_the_same_groups(self, tmp_path: Path) -> None:
        (tmp_path / "deep" / "train").mkdir(parents=True)
        for language in ("amh", "ptbr"):
            file = tmp_path / "deep" / "train" / f"{language}.csv"
            file.write_text(rows("t,y", "words {i},{label}"))
        (tmp_path / "a" / "b").mkdir(parents=True)
        draft = draft_layout(tmp_path / "deep", beside=tmp_path / "a" / "b")
        assert draft.layout.group.kind == "language"
        (tmp_path / "a" / "b" / "c.toml").write_text(draft.text)
        corpus = load_corpus(str(tmp_path / "a" / "b" / "c.toml"))
        assert corpus.training_languages == ["amh", "ptbr"]
