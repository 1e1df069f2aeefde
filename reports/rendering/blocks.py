"""What a report consists of: sections of text, tables and drawn pictures, as `pdf` and `html` set them."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from reports.rendering.tables import Table


@dataclass(frozen=True)
class Picture:
    """A drawn figure; `id` is its file name. `wide` needs the page's whole width."""

    id: str
    caption: str
    figure: Figure
    wide: bool = False


Block = str | Table | Picture


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report. `warnings` stand on its first page, `running` on every page, `watermark` across each."""

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    running: str
    watermark: str
    sections: tuple[Section, ...]

    @property
    def tables(self) -> list[Table]:
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Table)
        ]

    @property
    def pictures(self) -> list[Picture]:
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Picture)
        ]
