"""Set the report as PDF with typst, from `document/report.typ` and fonts that pip installs.

All content goes to the template as JSON, so that no text is read as typst markup.
"""

import json
import re
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeGuard

import typst

from reports.rendering.blocks import Block, Explorer, Picture, Report
from reports.rendering.fonts import FAMILIES, FOLDERS
from reports.rendering.tables import Cell, Table, group_spans, printable

TEMPLATE: Final = Path(str(files("reports.rendering") / "document" / "report.typ"))


def write_pdf(report: Report, folder: Path, *, built: str) -> Path:
    """Write `report.pdf` to `folder`, whose `figures/` hold the pictures.

    `built` is the time, as printed in each header.
    """
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
            font_paths=list(map(str, FOLDERS)),
        )
    finally:
        for scratch_file in (source, data):
            scratch_file.unlink(missing_ok=True)
        scratch.rmdir()
    return file


def _document(report: Report, built: str) -> dict[str, Any]:
    anchors = {
        cell.anchor for table in report.tables for row in table.rows for cell in row if cell.anchor
    }
    printed = [s for s in report.sections if any(_is_printed(block) for block in s.blocks)]
    return {
        "title": printable(report.title),
        "subtitle": printable(report.subtitle),
        "warnings": [printable(warning) for warning in report.warnings],
        "running": printable(report.running),
        "watermark": printable(report.watermark),
        "built": built,
        "readings": printable(report.readings),
        "fonts": list(FAMILIES),
        "anchors": sorted(anchors),
        "sections": [{"title": s.title, "blocks": _blocks(s.blocks)} for s in printed],
    }


def _blocks(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Return the blocks in order; small pictures that follow each other stand side by side."""
    layout: list[dict[str, Any]] = []
    for block in filter(_is_printed, blocks):
        content = _block(block)
        if not isinstance(block, Picture):
            layout.append(content)
        elif layout and layout[-1]["kind"] == "pictures" and _fit(layout[-1]["pictures"], block):
            layout[-1]["pictures"].append(content)
        else:
            layout.append({"kind": "pictures", "pictures": [content]})
    return layout


def _fit(pictures: Sequence[dict[str, Any]], another: Picture) -> bool:
    """Tell whether a picture can stand beside these."""
    return len(pictures) == 1 and not pictures[0]["wide"] and not another.wide


def _is_printed(block: Block) -> TypeGuard[str | Table | Picture]:
    """Return whether a block stands in print: what needs a pointer does not."""
    return not isinstance(block, Explorer)


def _block(block: str | Table | Picture) -> dict[str, Any]:
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
        "rows": [_row(row) for row in block.rows],
        "notes": [printable(note) for note in block.notes],
        "wide": block.wide,
        "widths": list(block.widths),
    }


def _typst_language(tag: str) -> str:
    """Return a tag's language if typst knows such codes, those of two or three letters."""
    language = tag.split("-")[0]
    return language if re.fullmatch(r"[a-z]{2,3}", language) else ""


def _row(row: Sequence[Cell]) -> list[dict[str, str | list[str]]]:
    """Return a row's cells; none links to the run whose own row it is."""
    anchors = {cell.anchor for cell in row if cell.anchor}
    return [_cell(cell, anchors) for cell in row]


def _cell(cell: Cell, here: Collection[str]) -> dict[str, str | list[str]]:
    return {
        "text": printable(cell.text),
        "below": [printable(line) for line in cell.below.splitlines()],
        "mark": cell.mark,
        "language": _typst_language(cell.language),
        "anchor": cell.anchor,
        "link": cell.link,
        "target": cell.runs[0] if cell.runs and cell.runs[0] not in here else "",
    }
