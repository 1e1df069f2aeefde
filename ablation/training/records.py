"""What a finished run leaves behind, as one typed record: `record.json` among its artifacts."""

from pydantic import BaseModel, ConfigDict

SCHEMA = 1


class RunRecord(BaseModel):
    """The result of one run.

    `dev` and `test` hold Pearson correlations in [-1, 1] by name, as `evaluation.scores` makes
    them; `test` is None where the test rows have no labels. `members` is an ensemble's: the names
    of its variants and how often each was selected.
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
