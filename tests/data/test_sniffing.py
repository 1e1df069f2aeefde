"""Find out how files of rows are written; ask about what the files don't say."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablation.core.errors import UsageError
from ablation.data.corpus import load_corpus
from ablation.data.draft import draft_layout
from ablation.data.rows import parse_number
from ablation.data.sniffing import guess_encoding, sniff_format

WORDS = [
    "sun",
    "moon",
    "tea",
    "cup",
    "red",
    "far",
    "near",
    "love",
    "hate",
    "walk",
    "talk",
    "sing",
    "blue",
    "cold",
    "warm",
]


def table(rows: int = 60) -> pd.DataFrame:
    """Rows of seven words, labelled from 1 to 5, in three languages."""
    return pd.DataFrame(
        {
            "text": [f"{' '.join(WORDS[(i + k) % 15] for k in range(6))} {i}" for i in range(rows)],
            "label": [1 + (i % 9) / 2 for i in range(rows)],
            "language": [("en", "fr", "de")[i % 3] for i in range(rows)],
        }
    )


def written(folder: Path, content: str | bytes, name: str = "ratings.csv") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


RUSSIAN = "Сегодня был хороший день, и мы долго гуляли по старому городу у реки. "
JAPANESE = "今日はとても良い天気なので、川のそばの古い町を長い間散歩しました。"
CHINESE = "今天天气很好，我们在河边的老城里散步了很久，然后一起喝茶。"
KOREAN = "오늘은 날씨가 아주 좋아서 강가의 오래된 마을을 오랫동안 산책했습니다. "
ARABIC = "كان اليوم جميلا فمشينا طويلا في المدينة القديمة قرب النهر وشربنا الشاي. "
POLISH = "Zażółć gęślą jaźń; proszę, źle się dziś czuję i pójdę już do łóżka. "
GERMAN = "Schöne Wörter; über große Flüsse führen Brücken. "
FRENCH = "L'été dernier, nous avons déjeuné près de la forêt, où l'on s'est promené. "


class TestEncodings:
    @pytest.mark.parametrize(
        ("text", "encoding", "readers"),
        [
            (RUSSIAN, "cp1251", {"cp1251"}),
            (RUSSIAN, "koi8_r", {"koi8_r"}),
            (JAPANESE, "shift_jis", {"shift_jis", "cp932", "shift_jis_2004", "shift_jisx0213"}),
            (JAPANESE, "euc_jp", {"euc_jp", "euc_jis_2004", "euc_jisx0213"}),
            (CHINESE, "gb18030", {"gb18030", "gbk", "gb2312"}),
            (CHINESE.replace("气", "氣"), "gb18030", {"gb18030", "gbk"}),
            (KOREAN, "cp949", {"cp949", "euc_kr", "johab"}),
            (ARABIC, "cp1256", {"cp1256"}),
            (FRENCH, "cp1252", {"cp1252"}),
            (GERMAN, "cp1252", {"cp1252"}),
            (POLISH, "cp1250", {"cp1250"}),
            (FRENCH, "utf-16", {"utf-16"}),
            (FRENCH, "utf-32", {"utf-32"}),
            (FRENCH, "utf-8", {"utf-8"}),
        ],
        ids=lambda value: value if isinstance(value, str) and value.isascii() else "",
    )
    def test_an_old_encoding_is_recognised_by_its_text(
        self, text: str, encoding: str, readers: set[str]
    ) -> None:
        content = (text * 20).encode(encoding)
        found = guess_encoding(content)
        assert found in readers
        assert content.decode(found) == text * 20

    def test_one_that_the_text_alone_tells_is_asked_about(self, tmp_path: Path) -> None:
        rows = table().assign(text=[f"{RUSSIAN}{i}" for i in range(60)])
        file = written(tmp_path, rows.to_csv(index=False).encode("cp1251"))
        with pytest.raises(UsageError, match=r"files\.encoding") as caught:
            load_corpus(str(file))
        assert "Сегодня" in str(caught.value)
        draft = draft_layout(file).text
        (tmp_path / "corpus.toml").write_text(draft.replace("# DECIDE", "#"))
        assert load_corpus(str(tmp_path)).train["text"][0].startswith("Сегодня был")

    def test_western_letters_are_read_and_shown(self, tmp_path: Path) -> None:
        rows = table().assign(text=[f"{FRENCH}{i}" for i in range(60)])
        corpus = load_corpus(str(written(tmp_path, rows.to_csv(index=False).encode("cp1252"))))
        assert corpus.train["text"][0].startswith("L'été dernier")
        assert any("été" in remark for remark in corpus.remarks)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
    def test_a_mark_is_believed(self, tmp_path: Path, encoding: str) -> None:
        corpus = load_corpus(str(written(tmp_path, table().to_csv(index=False).encode(encoding))))
        assert corpus.train["text"].tolist() == table()["text"].tolist()
        plain = tmp_path / "folder"
        plain.mkdir()
        written(plain, table().to_csv(index=False).encode(encoding), "train.csv")
        with pytest.raises(UsageError, match=f'files.encoding = "{encoding}"'):
            load_corpus(str(plain))

    def test_a_damaged_byte_of_utf_8_is_named_by_its_line(self, tmp_path: Path) -> None:
        rows = table().assign(text=[f"{RUSSIAN}{i}" for i in range(60)])
        damaged = (
            rows.to_csv(index=False)
            .encode()
            .replace(b" 7,", b" \xff7,")
            .replace(b' 7"', b' \xff7"')
        )
        with pytest.raises(UsageError, match="line 9: byte 0xff is not UTF-8"):
            load_corpus(str(written(tmp_path, damaged)))


class TestLinesOfNames:
    def test_pairs_of_texts_without_one_are_all_rows(self, tmp_path: Path) -> None:
        lines = [f"{text}\tmuch like {text}" for text in table()["text"]]
        text_format = sniff_format(written(tmp_path, "\n".join(lines), "input.txt"))
        assert text_format.header == ("column1", "column2")

    def test_a_long_name_is_a_name_above_short_values(self, tmp_path: Path) -> None:
        rows = table().rename(columns={"language": "the language of the text"})
        assert sniff_format(written(tmp_path, rows.to_csv(index=False))).header == ()

    def test_one_within_the_rows_is_no_row(self, tmp_path: Path) -> None:
        content = table().to_csv(index=False)
        with pytest.raises(UsageError, match="line 62: the line of names once more"):
            load_corpus(str(written(tmp_path, content + content)))

    def test_comments_above_it_are_named(self, tmp_path: Path) -> None:
        content = "# ratings, version 2\n" + table().to_csv(index=False)
        with pytest.raises(UsageError, match="line 1 begins with #"):
            load_corpus(str(written(tmp_path, content)))


class TestNumbers:
    @given(st.floats(-1e6, 1e6).map(lambda number: round(number, 3)))
    def test_a_typeset_minus_is_one(self, number: float) -> None:
        assert parse_number(f"{number}".replace("-", "\N{MINUS SIGN}"), ".") == number

    def test_decimal_commas_in_quotation_marks_are_read(self, tmp_path: Path) -> None:
        labels = [str(label).replace(".", ",") for label in table()["label"]]
        content = table().assign(label=labels).to_csv(index=False)
        corpus = load_corpus(str(written(tmp_path, content)))
        assert corpus.train["label"].tolist() == table()["label"].tolist()

    def test_thousands_between_commas_are_not_taken_for_them(self, tmp_path: Path) -> None:
        content = table().assign(followers=[f"{i + 1},000" for i in range(60)]).to_csv(index=False)
        corpus = load_corpus(str(written(tmp_path, content)))
        assert corpus.layout.files.decimal == "."
        assert corpus.train["label"].tolist() == table()["label"].tolist()

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [(["3/5", "4/5"] * 30, "'3/5' is no number"), ([3.0] * 60, "always 3.0")],
    )
    def test_a_label_that_can_not_be_one_is_explained(
        self, tmp_path: Path, labels: list[object], reason: str
    ) -> None:
        content = table().assign(label=labels).to_csv(index=False)
        with pytest.raises(UsageError, match=r"no column of numbers; label \(" + reason):
            load_corpus(str(written(tmp_path, content)))


class TestTexts:
    def test_addresses_are_no_texts_however_long(self, tmp_path: Path) -> None:
        rows = table().rename(columns={"text": "tweet"})
        rows["link"] = [f"https://example.org/{'a/long/path/' * 9}{i}" for i in range(60)]
        draft = draft_layout(written(tmp_path, rows.to_csv(index=False)))
        assert draft.layout.columns.text == ("tweet",)

    def test_a_column_of_that_name_is_the_text(self, tmp_path: Path) -> None:
        rows = table().assign(comment=[f"{' '.join(WORDS)} {i}" for i in range(60)])
        draft = draft_layout(written(tmp_path, rows.to_csv(index=False)))
        assert draft.layout.columns.text == ("text",)

    def test_texts_may_be_numbers(self, tmp_path: Path) -> None:
        rows = table().assign(text=[str(1000 + i) for i in range(60)])
        corpus = load_corpus(str(written(tmp_path, rows.to_csv(index=False))))
        assert corpus.train["text"].tolist() == rows["text"].tolist()
        assert corpus.layout.group.kind == "language"


class TestOtherFiles:
    @pytest.mark.parametrize(("file", "name"), [("stars.csv", "stars"), ("train.csv", "films")])
    def test_a_corpus_has_its_files_name_or_its_folders(
        self, tmp_path: Path, file: str, name: str
    ) -> None:
        folder = tmp_path / "films"
        folder.mkdir()
        assert load_corpus(str(written(folder, table().to_csv(index=False), file))).name == name

    def test_feather_is_arrow(self, tmp_path: Path) -> None:
        table().to_feather(tmp_path / "ratings.feather")
        corpus = load_corpus(str(tmp_path / "ratings.feather"))
        assert corpus.train["text"].tolist() == table()["text"].tolist()

    def test_an_archive_is_to_be_unpacked(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="an archive; unpack it"):
            load_corpus(str(written(tmp_path, b"PK\x05\x06" + b"\0" * 18, "ratings.zip")))


class TestExcel:
    @pytest.fixture
    def book(self, tmp_path: Path) -> Callable[..., Path]:
        pytest.importorskip("openpyxl")

        def write(**sheets: tuple[pd.DataFrame, int]) -> Path:
            file = tmp_path / "ratings.xlsx"
            with pd.ExcelWriter(file) as writer:
                for title, (rows, above) in sheets.items():
                    rows.to_excel(writer, sheet_name=title, index=False, startrow=above)
                    if above:
                        writer.sheets[title]["A1"] = "Ratings of posts"
            return file

        return write

    def test_a_title_and_blank_lines_stand_above_the_table(self, book: Callable[..., Path]) -> None:
        corpus = load_corpus(str(book(ratings=(table(), 3))))
        assert corpus.train["text"].tolist() == table()["text"].tolist()

    def test_positions_count_what_stands_above(self, book: Callable[..., Path]) -> None:
        labels = [9.0 if i == 4 else label for i, label in enumerate(table()["label"])]
        file = book(ratings=(table().assign(label=labels), 3))
        layout = draft_layout(file).text.replace("highest = 9", "highest = 5")
        (file.parent / "corpus.toml").write_text(layout)
        with pytest.raises(UsageError, match="row 9"):
            load_corpus(str(file.parent))

    def test_a_sheet_of_notes_is_not_the_table(self, book: Callable[..., Path]) -> None:
        notes = pd.DataFrame({"notes": ["Rated in 2020.", "Ask Ann."]})
        corpus = load_corpus(str(book(notes=(notes, 0), ratings=(table(), 0))))
        assert len(corpus.train) == 60

    def test_two_sheets_of_rows_are_not_halved_silently(self, book: Callable[..., Path]) -> None:
        with pytest.raises(UsageError, match="sheets '2019', '2020' have the same columns"):
            load_corpus(str(book(**{"2019": (table(), 0), "2020": (table(), 0)})))
