"""The report as PDF, set by typst from `document/report.typ` with fonts that pip brings.

All content goes to the template as JSON: a text's typst markup is its characters and no more.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import manimgx_fonts
import noto_cjk_sans_otc
import typst

from reports.rendering.blocks import Block, Picture, Report
from reports.rendering.tables import Cell, group_spans, printable

TEMPLATE: Final = Path(str(files("reports.rendering") / "document" / "report.typ"))
#: After the template's Latin face; the first that has a glyph sets it.
FONTS: Final = (
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Noto Emoji",
    "Noto Sans Symbols",
    "Noto Sans Hebrew",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Telugu",
    "Noto Sans Thai",
)


def write_pdf(report: Report, folder: Path, *, built: str) -> Path:
    """`report.pdf` in `folder`, whose `figures/` hold the pictures. `built` is the time, as printed in each header."""
    scratch = folder / ".typst"
    scratch.mkdir(exist_ok=True)
    source, data = scratch / "report.typ", scratch / "report.json"
    source.write_bytes(TEMPLATE.read_bytes())
    data.write_text(json.dumps(_document(report, built), ensure_ascii=False), "utf-8")
    file = folder / "report.pdf"
    try:
        typst.compile(
            str(source),
            output=str(file),
            root=str(folder),
            ignore_system_fonts=True,
            font_paths=[
                str(Path(str(package.__file__)).parent)
                for package in (manimgx_fonts, noto_cjk_sans_otc)
            ],
        )
    finally:
        for each in (source, data):
            each.unlink(missing_ok=True)
        scratch.rmdir()
    return file


def _document(report: Report, built: str) -> dict[str, Any]:
    anchors = {
        cell.anchor for table in report.tables for row in table.rows for cell in row if cell.anchor
    }
    return {
        "title": printable(report.title),
        "subtitle": printable(report.subtitle),
        "warnings": [printable(warning) for warning in report.warnings],
        "running": printable(report.running),
        "watermark": printable(report.watermark),
        "built": built,
        "fonts": list(FONTS),
        "anchors": sorted(anchors),
        "sections": [{"title": s.title, "blocks": _blocks(s.blocks)} for s in report.sections],
    }


def _blocks(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """The blocks in order; small pictures that follow each other stand side by side."""
    found: list[dict[str, Any]] = []
    for block in blocks:
        made = _block(block)
        if not isinstance(block, Picture):
            found.append(made)
        elif found and found[-1]["kind"] == "pictures" and _fit(found[-1]["pictures"], block):
            found[-1]["pictures"].append(made)
        else:
            found.append({"kind": "pictures", "pictures": [made]})
    return found


def _fit(pictures: Sequence[dict[str, Any]], another: Picture) -> bool:
    """Whether it can stand beside these."""
    return len(pictures) == 1 and not pictures[0]["wide"] and not another.wide


def _block(block: Block) -> dict[str, Any]:
    if isinstance(block, str):
        return {"kind": "text", "text": printable(block)}
    if isinstance(block, Picture):
        return {
            "file": f"/figures/{block.id}.pdf",
            "caption": printable(block.caption),
            "wide": block.wide,
        }
    return {
        "kind": "table",
        "title": printable(block.title),
        "columns": [{"title": printable(c.title), "numeric": c.numeric} for c in block.columns],
        "groups": [{"title": name, "span": span} for name, span in group_spans(block)],
        "rows": [[_cell(cell) for cell in row] for row in block.rows],
        "notes": [printable(note) for note in block.notes],
        "wide": block.wide,
        "widths": list(block.widths),
    }


def _cell(cell: Cell) -> dict[str, str | list[str]]:
    return {
        "text": printable(cell.text),
        "below": [printable(line) for line in cell.below.splitlines()],
        "mark": cell.mark,
        "language": cell.language,
        "anchor": cell.anchor,
        "link": cell.link,
        "target": cell.runs[0] if cell.runs else "",
    }
