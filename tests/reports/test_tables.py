"""A table's forms: texts are data in each of them, numbers come out in full."""

import csv
import io
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from reports.rendering.tables import (
    Cell,
    Column,
    Table,
    TableBuilder,
    interval_text,
    mark_best,
    number,
    number_column,
    printable,
    to_csv,
    to_latex,
    to_markdown,
)

HOSTILE = [
    "=1+1",
    '=HYPERLINK("http://x","y")',
    "+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    r"\input{/etc/passwd} $x^2$ % & # _ ~ {",
    "#set page(fill: red) *bold* _it_ `raw` $x$ @ref <label> #{panic()}",
    "<script>alert(1)</script> &amp; <b>",
    "| a | b | [link](http://x) **bold** <img src=x>",
    'a "quoted", text\nwith a line break',
    "مرحبا بالعالم",
    "नमस्ते",
    "안녕하세요 你好",
    "😂❤️ ♡",
]


def table(*texts: str, value: float | None = None) -> Table:
    return Table(
        "t",
        "A title",
        (Column("Text"), Column("r", True, "group")),
        tuple((Cell(t, language="en"), number(value)) for t in texts),
    )


def test_numbers_keep_their_value_and_minus_is_a_minus() -> None:
    assert number(-1.23456).text == "−1.23"
    assert number(-1.23456).value == -1.23456
    assert number(0.001, signed=True).text == "0.00"
    assert number(None).text == number(float("nan")).text == number(math.inf).text == "–"
    assert interval_text(-0.5, 1.25) == "[−0.50, 1.25]"
    assert interval_text(float("nan"), 1.0) == "–"


def test_best_and_second_are_marked_ties_alike() -> None:
    cells = [number(v) for v in (1.0, 3.001, 3.004, 2.0)] + [Cell("no runs")]
    assert [c.mark for c in mark_best(cells)] == ["", "best", "best", "second", ""]
    assert [c.mark for c in mark_best([number(1.0)])] == [""]


class TestCsv:
    def test_numbers_are_numbers_and_the_runs_are_named(self) -> None:
        cells = (Cell("a", runs=("r1",)), Cell("−1.23", -1.234567, runs=("r1", "r2")))
        rows = list(
            csv.reader(
                io.StringIO(to_csv(Table("t", "T", (Column("x"), Column("y", True)), (cells,))))
            )
        )
        assert rows == [["x", "y", "run ids"], ["a", "-1.234567", "r1 r2"]]

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_cell_is_a_formula_and_no_character_is_lost(self, text: str) -> None:
        (_, row) = csv.reader(io.StringIO(to_csv(table(text, value=1.0)), newline=""))
        assert row[0].lstrip()[:1] not in ("=", "+", "-", "@")
        assert row[0].removeprefix("'") == text

    def test_a_variants_name_loses_its_plus(self) -> None:
        assert '"EPM + CL"' in to_csv(
            Table("t", "T", (Column("Method"),), ((Cell("+ EPM + CL"),),))
        )

    @given(some.text(min_size=1))
    def test_any_text_is_one_cell(self, text: str) -> None:
        rows = list(csv.reader(io.StringIO(to_csv(table(text)), newline="")))
        assert len(rows) == 2
        assert len(rows[1]) == 2


class TestLatex:
    def test_it_is_a_booktabs_table(self) -> None:
        latex = to_latex(table("a", value=1.5))
        for part in (
            r"\toprule",
            r"\midrule",
            r"\bottomrule",
            r"\begin{tabular}{lr}",
            r"\multicolumn{1}{c}{group}",
        ):
            assert part in latex

    def test_small_print_stands_below(self) -> None:
        latex = to_latex(
            Table(
                "t",
                "T",
                (Column("r", True),),
                ((Cell("1.00", 1.0, below="paper 2.00\n[0, 3]", mark="second"),),),
            )
        )
        lines = [r"\underline{1.00}", r"\tiny paper 2.00", r"\tiny {[}0, 3{]}"]
        start, end = r"\begin{tabular}[t]{@{}r@{}}", r"\end{tabular} \\"
        assert start + r"\\".join(lines) + end in latex

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_character_of_a_text_is_markup(self, text: str) -> None:
        cell = re.search(r"\\midrule\n(.*?) & ", to_latex(table(text)), re.DOTALL)
        assert cell
        rest = cell.group(1)
        for known in (
            r"\textbackslash{}",
            r"\textasciitilde{}",
            r"\textasciicircum{}",
            r"\textless{}",
            r"\textgreater{}",
            r"\textquotedbl{}",
            r"\textquotesingle{}",
            r"\textasciigrave{}",
            r"\{",
            r"\}",
            r"\$",
            r"\&",
            r"\#",
            r"\%",
            r"\_",
            "{[}",
            "{]}",
            "{-}",
            r"$\times$",
        ):
            rest = rest.replace(known, "")
        assert not set(rest) & set('\\{}$&#%_~^<>"`')


class TestMarkdown:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_text_stays_in_its_cell(self, text: str) -> None:
        line = to_markdown(table(text)).splitlines()[4]
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
        assert re.sub(r"\\(.)", r"\1", line).startswith(f"| {' '.join(text.split())} |")

    def test_best_is_bold_and_second_is_in_italics(self) -> None:
        cells = mark_best([number(3.0), number(2.0), number(1.0)])
        lines = to_markdown(
            Table("t", "T", (Column("r", True),), tuple((c,) for c in cells))
        ).splitlines()
        assert lines[4:] == ["| **3.00** |", "| *2.00* |", "| 1.00 |"]


@given(some.text())
def test_what_is_printed_has_a_glyph_and_one_line(text: str) -> None:
    shown = printable(text)
    assert "\n" not in shown
    assert not re.search("[\x00-\x1f\x7f\u202a-\u202e]", shown)


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(AssertionError, match="table t"):
        Table("t", "T", (Column("a"), Column("b")), ((Cell("x"),),))


class TestBuilder:
    def test_rows_are_packed_by_the_names_of_the_columns(self) -> None:
        table = TableBuilder("t", "T", name=Column("Name"), runs=number_column("runs", width=3))
        table.add(runs=2, name="MSE")
        table.add(name=Cell("EPM", mark="best"), runs=number(1.5, runs=("a",)))
        built = table.build("a note", wide=False)
        assert [[cell.text for cell in row] for row in built.rows] == [
            ["MSE", "2"],
            ["EPM", "1.50"],
        ]
        assert built.rows[0][1].value == 2
        assert built.rows[1][0].mark == "best"
        assert built.widths == (0, 3)
        assert built.notes == ("a note",)

    @pytest.mark.parametrize("cells", [{"name": "a"}, {"name": "a", "runs": 1, "rnus": 1}])
    def test_a_row_that_lacks_a_column_or_has_an_unknown_one_is_refused(
        self, cells: dict[str, str | int]
    ) -> None:
        table = TableBuilder("t", "T", name=Column("Name"), runs=number_column("runs"))
        with pytest.raises(TypeError, match=r"table t: .*(runs|rnus)"):
            table.add(**cells)
