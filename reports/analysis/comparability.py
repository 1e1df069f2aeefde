"""Tell which of the paper's figures may be compared with a group of runs.

A claim about a method can be tested on the paper's data with another encoder or other settings; a
printed score can't be reproduced by them. On other data neither can be judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ablation.config.schema import RunConfig
from ablation.config.variant_table import VariantTable
from ablation.config.variants import TABLE_3
from ablation.data.reference import MINT
from ablation.tracking import names
from reports.analysis.collect import StoredRun
from reports.analysis.groups import SHARED_FIELDS

SYNTHETIC: Final = "the data are synthetic"
OTHER_DATA: Final = "the data are not the paper's"
ENCODER: Final = "model.encoder"
#: Fields that leave what is computed as it is, or that the paper does not state.
_NOT_COMPARED: Final = frozenset(
    {
        ENCODER,
        "data.split_seed",
        "data.equal_texts",
        "model.trim_vocabulary",
        "optimisation.log_every",
        "optimisation.micro_batch",
    }
)


@dataclass(frozen=True)
class Comparability:
    """Say what of the paper a group of runs can be held against.

    Attributes:
        obstacle: Why none of the paper's figures applies; empty if they do.
        encoders: Other encoders than the paper's.
        settings: Other settings than the paper's, such as "optimisation.epochs 3".
        has_figures: False for a table of which nothing is printed.
    """

    obstacle: str = ""
    encoders: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    has_figures: bool = True

    @property
    def applies(self) -> bool:
        """True if the paper's figures may stand beside these."""
        return not self.obstacle and self.has_figures

    @property
    def cell_obstacle(self) -> str:
        """Why no printed score can be reproduced; empty if it can."""
        if self.obstacle:
            return self.obstacle
        if not self.has_figures:
            return "nothing is printed of it"
        if self.encoders:
            return "another encoder"
        return "other settings" if self.settings else ""

    @property
    def caveat(self) -> str:
        """Caveats of the comparison as sentences; empty if there are none."""
        if self.obstacle or not (self.encoders or self.settings):
            return ""
        differences = [f"encoder {', '.join(self.encoders)}"] if self.encoders else []
        differences += self.settings
        return (
            f"These runs differ from the paper's in: {'; '.join(differences)}. Verdicts on claims"
            " are about the methods under these conditions; the paper's scores themselves can't"
            " be reproduced or refuted by them."
        )


def compare_with_paper(runs: Sequence[StoredRun], table: VariantTable = TABLE_3) -> Comparability:
    """Return what of the table's publication the runs can be held against.

    The settings of another publication than the paper are not known here.
    """
    if any(run.synthetic for run in runs):
        return Comparability(SYNTHETIC, has_figures=table.publication is not None)
    if not table.is_the_papers:
        if table.publication is None:
            return Comparability(has_figures=False)
        corpus = table.publication.corpus
        if any(corpus not in (run.reference, run.tags.get(names.CORPUS)) for run in runs):
            return Comparability(f"the data are not those of {table.publication.name}")
        return Comparability()
    if any(run.reference != MINT for run in runs):
        return Comparability(OTHER_DATA)
    printed = {field: str(value) for field, value in RunConfig().flat().items()}
    fields = [field for field in SHARED_FIELDS if field not in _NOT_COMPARED]
    trained = [run for run in runs if not run.member_runs]
    with_encoder = [run for run in trained if ENCODER not in _changes(run.variant)]
    encoders = {run.params.get(ENCODER, printed[ENCODER]) for run in with_encoder}
    settings = dict.fromkeys(
        f"{field} {_quoted(run.params[field])}"
        for field in fields
        for run in trained
        if field not in _changes(run.variant)
        and run.params.get(field, printed[field]) != printed[field]
    )
    return Comparability("", tuple(sorted(encoders - {printed[ENCODER]})), tuple(settings))


def _quoted(value: str) -> str:
    """Put a value in quotes whose blanks or marks would be lost in a sentence."""
    return value if value and not set(value) & set(" ;,:") else f"'{value}'"


def _changes(variant: str) -> frozenset[str]:
    """Return the settings that a variant itself changes."""
    row = TABLE_3.variants.get(variant)
    return frozenset() if row is None else frozenset(row.changes)
