"""Define the parts of a report that `pdf` and `html` set: sections of text, tables, pictures."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from reports.rendering.tables import Table


@dataclass(frozen=True)
class Picture:
    """A drawn figure; `id` is its file name, `wide` needs the page's whole width."""

    id: str
    caption: str
    figure: Figure
    wide: bool = False


Block = str | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title, subtitle: At the top of the first page.
        warnings: Boxes on the first page.
        running: Header of every page.
        watermark: Across every page; empty for none.
        sections: In order.
    """

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    running: str
    watermark: str
    sections: tuple[Section, ...]

    @property
    def blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]

    @property
    def tables(self) -> list[Table]:
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [block for block in self.blocks if isinstance(block, Picture)]
