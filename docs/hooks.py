"""Write the parts of the pages that are read from the code, when MkDocs builds the site.

A page asks for one with a comment of its own line, for example `<!-- generated: settings -->`.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("ablation", "studies", "reports")
_REQUEST: Final = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each request by its text. MkDocs calls this for every page."""
    return _REQUEST.sub(lambda request: "\n".join(PARTS[request[1]]()), markdown)


def file_map() -> Iterator[str]:
    """Yield every module with the first sentence of its docstring, grouped by folder."""
    for package in PACKAGES:
        folders = [folder for folder in (ROOT / package).rglob("") if list(folder.glob("*.py"))]
        for folder in sorted(folders):
            modules = {file: first_sentence(file) for file in sorted(folder.glob("*.py"))}
            room = modules.pop(folder / "__init__.py", "")
            yield from ("", f"## `{folder.relative_to(ROOT).as_posix()}/`", "", room, "")
            if modules:
                rows = ((f"`{file.name}`", phrase) for file, phrase in modules.items())
                yield from table(("file", ""), rows)


def first_sentence(file: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]


def settings() -> Iterator[str]:
    """Yield a table of settings for each section of `RunConfig`."""
    from ablation.config.schema import RunConfig

    for section, field in RunConfig.model_fields.items():
        yield from ("", f"### `[{section}]`", "")
        fields = field.default.__class__.model_fields.items()
        rows = (
            (f"`{section}.{name}`", f"`{setting.default!r}`", setting.description or "")
            for name, setting in fields
        )
        yield from table(("setting", "default", ""), rows)


def variants() -> Iterator[str]:
    """Yield the table of variants with the question that each answers, and that of the groups."""
    from ablation.config.variants import GROUPS, VARIANTS

    rows = ((f"`{name}`", v.title, v.question) for name, v in VARIANTS.items())
    yield from table(("variant", "row of the table", "the question it answers"), rows)
    yield ""
    groups = ((f"`{name}`", ", ".join(f"`{v}`" for v in group)) for name, group in GROUPS.items())
    yield from table(("group", "variants"), groups)


def command_line() -> Iterator[str]:
    """Yield each command with its description and a table of its options."""
    from typer.main import get_command

    from ablation.cli.main import app

    root: Any = get_command(app)
    for name, command in root.commands.items():
        yield from ("", f"## `ablation {name}`", "", command.help or "", "")
        options = [parameter.get_help_record(_context(command)) for parameter in command.params]
        rows = ((f"`{record[0]}`", record[1]) for record in options if record)
        yield from table(("option", ""), rows)


def _context(command: Any) -> Any:
    return command.context_class(command, info_name=command.name)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    headings = list(headings)
    yield from (_row(headings), _row("---" for _ in headings))
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


PARTS: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "command-line": command_line,
    "file-map": file_map,
    "settings": settings,
    "variants": variants,
}
