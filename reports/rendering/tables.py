"""A table as typed cells, and its forms: LaTeX (booktabs), Markdown and CSV.

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
    """`text` as it is read, `below` in small print under it, line by line; `value` the number behind it, in full.

    `runs` are the ids of the runs it comes from; `language` (ISO 639-1) is set for a quoted text;
    `anchor` is the run id whose row this is; `link` an address.
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
        """All of it on one line."""
        return f"{self.text} ({', '.join(self.below.splitlines())})" if self.below else self.text


@dataclass(frozen=True)
class Column:
    """`group` is a heading that spans the neighbouring columns with the same one."""

    title: str
    numeric: bool = False
    group: str = ""

    @property
    def full_title(self) -> str:
        return " ".join(part for part in (self.group, self.title) if part)


@dataclass(frozen=True)
class Table:
    """`id` is its file name; every row has a cell for each column. `wide` needs the page's whole width;
    `widths` are the columns' shares of it, their contents' where not given."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    wide: bool = False
    widths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise AssertionError(f"table {self.id}: a row has not one cell for each column")


def number(
    value: float | None, digits: int = 2, *, signed: bool = False, runs: Iterable[str] = ()
) -> Cell:
    """A number's cell; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return Cell("–")
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return Cell(text.replace("-", "−"), float(value), runs=tuple(runs))


def interval_text(low: float, high: float, digits: int = 2) -> str:
    """`[low, high]`, a dash where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"[{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


def mark_best(cells: Sequence[Cell]) -> list[Cell]:
    """The column with its highest value marked best and the next one second, ties alike."""
    ranked = sorted({round(c.value, 2) for c in cells if c.value is not None}, reverse=True)
    marks: dict[float, Mark] = {}
    if len(ranked) > 1:
        marks = {ranked[0]: "best", ranked[1]: "second"}
    return [
        c if c.value is None else replace(c, mark=marks.get(round(c.value, 2), "")) for c in cells
    ]


def printable(text: str) -> str:
    """`text` on one line, without characters that have no glyph: controls become U+FFFD.

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
    """Numbers in full, texts as they are; a last column names the runs where a row has any."""
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
    """A pipe table under its title; best is bold, second in italics."""
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
    """A booktabs table (package booktabs; XeLaTeX or LuaLaTeX for scripts beyond Latin)."""
    share = [0.94 * width / sum(table.widths) for width in table.widths] or [0.0] * len(
        table.columns
    )
    alignment = "".join(
        "r" if c.numeric else rf"p{{{part:.3f}\linewidth}}" if part else "l"
        for c, part in zip(table.columns, share, strict=True)
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
    """The group headings from left to right, with how many columns each spans."""
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
    # A variant's own name, `+ EPM`, is shown without its plus rather than with an apostrophe.
    text = cell.whole if cell.language else cell.whole.removeprefix("+ ")
    return _no_formula(text) if cell.text != "–" else ""


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip(" \ufeff").startswith(_FORMULA) else text


def _markdown(text: str) -> str:
    return "".join(f"\\{c}" if c in _MARKDOWN else c for c in printable(text))


def _markdown_cell(cell: Cell) -> str:
    # A cell without a quoted text holds nothing but figures and our own words.
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
