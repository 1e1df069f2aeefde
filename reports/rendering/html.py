"""Write the report as one HTML page that needs no network: figures, style and script are in it."""

import base64
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from reports.rendering.blocks import Picture, Report
from reports.rendering.tables import group_spans, printable


def write_html(report: Report, folder: Path, *, built: str) -> Path:
    """Write `report.html` to `folder`, whose `figures/` hold the pictures."""
    document = files("reports.rendering") / "document"

    def image(picture: Picture) -> str:
        content = (folder / "figures" / f"{picture.id}.svg").read_bytes()
        return base64.b64encode(content).decode("ascii")

    page = _template(document.joinpath("report.html").read_text("utf-8")).render(
        report=report,
        built=built,
        # The only two things on the page that are not escaped.
        style=Markup(document.joinpath("style.css").read_text("utf-8")),
        script=Markup(document.joinpath("sort.js").read_text("utf-8")),
        anchors={
            cell.anchor
            for table in report.tables
            for row in table.rows
            for cell in row
            if cell.anchor
        },
        image=image,
        spans=group_spans,
        printable=printable,
    )
    file = folder / "report.html"
    file.write_text(page, "utf-8")
    return file


def _template(source: str) -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
