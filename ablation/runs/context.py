"""Bundle what the runs of one suite or study share while they are trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ablation.config.schema import RunConfig
from ablation.data.corpus import Corpus
from ablation.runs.progress import RunEvents
from ablation.tracking import names, provenance
from ablation.tracking.store import Store

if TYPE_CHECKING:
    from ablation.runs.energy import EnergyMeter
    from ablation.training.train_run import Prepared


@dataclass
class Preparations:
    """Tokenised corpora and loaded encoders, each made once for all the runs that share it."""

    corpus: Corpus
    made: "dict[tuple[object, ...], Prepared]" = field(default_factory=dict)

    def get(self, config: RunConfig) -> "Prepared":
        """Return what `config` trains with. Raises UsageError if its encoder can't be used."""
        # Imported here: torch and transformers take seconds, and reused runs need neither.
        from ablation.training.train_run import preparation_key, prepare

        key = preparation_key(config)
        if key not in self.made:
            self.made[key] = prepare(self.corpus, config)
        return self.made[key]


@dataclass(frozen=True)
class RunContext:
    """Shared by the runs of one suite or study.

    Attributes:
        store: The tracking store that the runs are written to.
        experiment: The id of their MLflow experiment.
        suite: The id of the runs' parent: a suite, or a curve study.
        tags: Tags that every run gets.
        preparations: The corpus, tokenised, and the encoders.
        progress: Receives what happens to each run.
        fresh: Train runs again that have finished before.
        meter: Measures the electricity that training takes.
        checkpoints: The URL that checkpoints are copied to; empty for none.
    """

    store: Store
    experiment: str
    suite: str
    tags: Mapping[str, object]
    preparations: Preparations
    progress: RunEvents
    fresh: bool = False
    meter: "EnergyMeter | None" = None
    checkpoints: str = ""

    @property
    def corpus(self) -> Corpus:
        return self.preparations.corpus


def origin_tags(corpus: Corpus, profile: str) -> dict[str, object]:
    """Return the tags that say from which data, profile and commit a run comes."""
    source = provenance.source()
    return {
        names.PROFILE: profile,
        names.CORPUS: corpus.name,
        names.SYNTHETIC: str(corpus.synthetic).lower(),
        names.REFERENCE: corpus.reference or "none",
        f"{names.IDENTITY_PART}data": corpus.digest,
        names.TRAIN_DATA: corpus.train_digest,
        names.COMMIT: source.commit or "none",
        names.DIRTY: str(source.dirty).lower(),
    }
