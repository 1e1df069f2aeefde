"""Write the report as one HTML page that needs no network: figures, style and scripts are in it."""

import base64
import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from reports.rendering.blocks import Explorer, Picture, Report
from reports.rendering.plotting import COLOURS
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
        # Style and scripts are all on the page that is not escaped.
        style=Markup(document.joinpath("style.css").read_text("utf-8")),
        script=Markup(document.joinpath("sort.js").read_text("utf-8")),
        explorer_scripts=_explorer_scripts() if report.explorers else "",
        explorer_data=_explorer_data,
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


def _explorer_scripts() -> Markup:
    """Return plotly and what draws with it; plotly is 4.8 MB, so only where it is used."""
    from plotly.offline import get_plotlyjs

    own = files("reports.rendering").joinpath("document", "explorer.js").read_text("utf-8")
    return Markup(f"{get_plotlyjs()}\n</script>\n<script>{own}")


def _explorer_data(explorer: Explorer) -> Markup:
    """Return an explorer's data as JSON that can't end its script element."""
    data = {
        "methods": explorer.methods,
        "runs": [asdict(point) for point in explorer.points],
        "scores": explorer.scores,
        "groups": explorer.groups,
        "colours": COLOURS,
    }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _template(source: str) -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)
