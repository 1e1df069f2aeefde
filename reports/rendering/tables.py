"""Hold a table as typed cells and write it as LaTeX (booktabs), Markdown and CSV.

Texts are data in every form: what is markup there is escaped, and a CSV cell that a spreadsheet
would take for a formula starts with an apostrophe. HTML and PDF are rendered from the same cells
by `reports.rendering.pdf` and `reports.rendering.html`.
"""

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

Mark = Literal["", "best", "second", "differs", "good", "bad", "unsure"]

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "[": "{[}",
    "]": "{]}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
    "–": "--",
    "→": r"$\rightarrow$",
    "τ": r"$\tau$",
    "·": r"$\cdot$",
}
_MARKDOWN: Final = frozenset("\\`*_{}[]()<>#+-!|~&$^=:@.")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: As it is read.
        value: The number behind it, in full.
        below: Small print under it, line by line.
        runs: Ids of the runs that it comes from.
        mark: How to set it off.
        language: A language's tag if it is a quoted text; "und" if the language is not known.
        anchor: The run id whose row this is.
        link: An address.
    """

    text: str
    value: float | None = None
    below: str = ""
    runs: tuple[str, ...] = ()
    mark: Mark = ""
    language: str = ""
    anchor: str = ""
    link: str = ""

    @property
    def whole(self) -> str:
        """Text and small print on one line."""
        return f"{self.text} ({', '.join(self.below.splitlines())})" if self.below else self.text


EMPTY: Final = Cell("–")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        numeric: Whether to align it right.
        group: A heading that spans the neighbouring columns with the same one.
        width: Its share of the table's width; its content's width if no column has one.
    """

    title: str
    numeric: bool = False
    group: str = ""
    width: float = 0.0

    @property
    def full_title(self) -> str:
        return " ".join(part for part in (self.group, self.title) if part)


@dataclass(frozen=True)
class Table:
    """A table; every row has a cell for each column.

    Attributes:
        id: Its file name.
        title: Its caption.
        columns, rows: Its content.
        notes: Small print under it.
        wide: Whether it needs the page's whole width.
    """

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    wide: bool = False

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise AssertionError(f"table {self.id}: each row needs one cell for each column")

    @property
    def widths(self) -> tuple[float, ...]:
        """Shares of the columns; empty if they are as wide as their contents."""
        widths = tuple(column.width for column in self.columns)
        return widths if any(widths) else ()


class TableBuilder:
    """Build a table row by row, its cells named by column.

    For example `TableBuilder("cost", "Cost", method=Column("Method"), runs=number_column("runs"))`,
    then `add(method="MSE", runs=3)` for each row, then `build("Means over runs.")`.
    """

    def __init__(self, name: str, title: str, /, **columns: Column) -> None:
        self.id, self.title, self.columns = name, title, columns
        self.rows: list[tuple[Cell, ...]] = []

    def add(self, **cells: Cell | str | int) -> None:
        """Append a row: a text becomes its cell, a count a cell with its value.

        Raises:
            TypeError: A column has no cell, or a cell no column.
        """
        if cells.keys() != self.columns.keys():
            wrong = ", ".join(sorted(cells.keys() ^ self.columns.keys()))
            raise TypeError(f"table {self.id}: missing or unknown columns in a row: {wrong}")
        self.rows.append(tuple(_as_cell(cells[name]) for name in self.columns))

    def build(self, *notes: str, wide: bool = True) -> Table:
        """Return the table with the rows so far, these notes, and the page's width if `wide`."""
        columns = tuple(self.columns.values())
        return Table(self.id, self.title, columns, tuple(self.rows), notes, wide)


def _as_cell(content: Cell | str | int) -> Cell:
    if isinstance(content, Cell):
        return content
    return Cell(content) if isinstance(content, str) else Cell(str(content), content)


def number_column(title: str, *, group: str = "", width: float = 0.0) -> Column:
    """Return a column of numbers."""
    return Column(title, numeric=True, group=group, width=width)


def number(
    value: float | None, digits: int = 2, *, signed: bool = False, runs: Iterable[str] = ()
) -> Cell:
    """Return a number's cell; a dash for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return EMPTY
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return Cell(text.replace("-", "−"), float(value), runs=tuple(runs))


def interval_text(low: float, high: float, digits: int = 2) -> str:
    """Return `[low, high]`; a dash without an interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"[{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


def mark_best(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a column with the highest value marked best, the next second."""
    ranked = sorted({round(c.value, 2) for c in cells if c.value is not None}, reverse=True)
    marks: dict[float, Mark] = {}
    if len(ranked) > 1:
        marks = {ranked[0]: "best", ranked[1]: "second"}
    return [
        c if c.value is None else replace(c, mark=marks.get(round(c.value, 2), "")) for c in cells
    ]


def printable(text: str) -> str:
    """Return `text` on one line; characters without a glyph, such as controls, become U+FFFD.

    Direction overrides go as well, since they would turn around what stands beside the text.
    """
    text = " ".join(text.split())
    return "".join(
        "\ufffd"
        if unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn")
        or c in "\u202a\u202b\u202c\u202d\u202e"
        else c
        for c in text
    )


def to_csv(table: Table) -> str:
    """Write numbers in full and texts as they are; a last column names the runs, if any."""
    runs = [" ".join(dict.fromkeys(run for cell in row for run in cell.runs)) for row in table.rows]
    with_runs = any(runs)
    out = io.StringIO()
    # Texts in quotes: a bare carriage return in one would end its row.
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(
        [*(_no_formula(c.full_title) for c in table.columns), *(["run ids"] if with_runs else [])]
    )
    for row, ids in zip(table.rows, runs, strict=True):
        writer.writerow([*(_csv_cell(cell) for cell in row), *([ids] if with_runs else [])])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """Write a pipe table under its title; best is bold, second in italics."""
    heads = [_markdown(c.full_title) for c in table.columns]
    rules = ["---:" if c.numeric else "---" for c in table.columns]
    body = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    lines = [
        f"**{_markdown(table.title)}**",
        "",
        *("| " + " | ".join(line) + " |" for line in (heads, rules, *body)),
    ]
    return "\n".join([*lines, *(f"\n{_markdown(note)}" for note in table.notes)]) + "\n"


def to_latex(table: Table) -> str:
    """Write a booktabs table (XeLaTeX or LuaLaTeX for scripts beyond Latin)."""
    total = sum(table.widths)
    shares = [0.94 * c.width / total if total else 0.0 for c in table.columns]
    alignment = "".join(
        "r" if c.numeric else rf"p{{{part:.3f}\linewidth}}" if part else "l"
        for c, part in zip(table.columns, shares, strict=True)
    )
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\label{{tab:{table.id}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
    ]
    if any(c.group for c in table.columns):
        spans = group_spans(table)
        heads = [
            rf"\multicolumn{{{n}}}{{c}}{{{_latex(title)}}}" if title else " & ".join([""] * n)
            for title, n in spans
        ]
        lines.append(" & ".join(heads) + r" \\")
        start = 1
        for title, n in spans:
            if title:
                lines.append(rf"\cmidrule(lr){{{start}-{start + n - 1}}}")
            start += n
    lines.append(" & ".join(_latex(c.title) for c in table.columns) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def group_spans(table: Table) -> list[tuple[str, int]]:
    """Return the group headings from left to right, with the number of columns of each."""
    spans: list[tuple[str, int]] = []
    for column in table.columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans


#: File endings and what writes them.
FORMS: Final[dict[str, Callable[[Table], str]]] = {
    "csv": to_csv,
    "md": to_markdown,
    "tex": to_latex,
}


def _csv_cell(cell: Cell) -> str | float:
    if cell.value is not None and not cell.language and not cell.below:
        return round(float(cell.value), 6) + 0.0
    # A variant's title, `+ EPM`, loses its plus rather than getting an apostrophe.
    text = cell.whole if cell.language else cell.whole.removeprefix("+ ")
    return _no_formula(text) if cell.text != "–" else ""


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip(" \ufeff").startswith(_FORMULA) else text


def _markdown(text: str) -> str:
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in printable(text))


def _markdown_cell(cell: Cell) -> str:
    # A cell with a value holds figures only.
    text = _markdown(cell.whole) if cell.value is None else cell.whole
    return f"**{text}**" if cell.mark == "best" else f"*{text}*" if cell.mark == "second" else text


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in printable(text))


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text) if cell.text != "–" else "--"
    if cell.mark == "best":
        text = rf"\underline{{\textbf{{{text}}}}}"
    elif cell.mark == "second":
        text = rf"\underline{{{text}}}"
    if not cell.below:
        return text
    lines = r"\\".join([text, *(rf"\tiny {_latex(line)}" for line in cell.below.splitlines())])
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}"
