"""Define the parts of a report that `pdf` and `html` set: sections of text, tables, pictures."""

from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class RunPoint:
    """A run in an `Explorer`.

    Attributes:
        id: The run's id.
        method: Index of its row in `Explorer.methods`.
        split, seed: As they are shown.
        epoch: The epoch that was kept; None for an ensemble or a collapsed run.
    """

    id: str
    method: int
    split: str
    seed: int
    epoch: int | None


@dataclass(frozen=True)
class Explorer:
    """Scores of every run that a reader filters on the HTML page; print leaves it out.

    Attributes:
        id, caption: As a picture's.
        methods: Titles of the rows.
        points: The runs.
        scores: By rows and group, the score of each of `points`; None where there is none.
        group_label: The word for the groups, such as Languages.
        groups: Titles of the groups.
    """

    id: str
    caption: str
    methods: tuple[str, ...]
    points: tuple[RunPoint, ...]
    scores: Mapping[str, Mapping[str, Sequence[float | None]]]
    group_label: str
    groups: Mapping[str, str]


Block = str | Table | Picture | Explorer


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
        readings: How often the test rows were read so far; empty if they have no scores.
    """

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    running: str
    watermark: str
    sections: tuple[Section, ...]
    readings: str = ""

    @property
    def blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]

    @property
    def tables(self) -> list[Table]:
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def pictures(self) -> list[Picture]:
        return [block for block in self.blocks if isinstance(block, Picture)]

    @property
    def explorers(self) -> list[Explorer]:
        return [block for block in self.blocks if isinstance(block, Explorer)]
