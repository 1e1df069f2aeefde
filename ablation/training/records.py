"""The record of a finished run: `record.json` among its artifacts."""

from typing import Final

from pydantic import BaseModel, ConfigDict

SCHEMA = 1
#: Measures that can choose an epoch, in words.
SELECTION_NAMES: Final = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "concordance": "concordance",
    "rmse": "RMSE",
    "mae": "MAE",
}


class RunRecord(BaseModel):
    """The result of one run.

    Attributes:
        best_epoch: The selected epoch, from 1; None for a collapsed run or an ensemble.
        collapsed: True if no epoch had a development Pearson.
        selection: The rule by which the epoch or the members were selected.
        unseen_in_training: Languages that the split holds out of training.
        dev: Scores on the development rows, named by `evaluation.scores` and `agreement`;
            runs of version 0.1.0 have correlations alone.
        test: The same on the test rows; None if these have no labels.
        members: For an ensemble, how often each variant was selected.
        steps: Optimizer steps.
        seconds: Seconds from the start of training to the test predictions.
        skipped_contrastive_batches: Steps whose batch had no contrastive term.
        vocabulary_kept: Tokens that are left after trimming.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA
    variant: str
    split: str
    seed: int
    identity: str
    best_epoch: int | None
    collapsed: bool
    selection: str = "best epoch by pooled Pearson on the development rows"
    unseen_in_training: tuple[str, ...]
    dev: dict[str, float]
    test: dict[str, float] | None
    members: dict[str, int] | None = None
    steps: int = 0
    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    parameters_total: int | None = None
    parameters_trainable: int | None = None
    skipped_contrastive_batches: int = 0
    vocabulary_kept: int | None = None
    layers_total: int | None = None
    layers_frozen: int | None = None
