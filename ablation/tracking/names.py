"""Names of the tags, metrics and artifacts that this suite writes; readers import them from here.

Metrics: `train/...` and `lr/...` by optimizer step, `dev/...` by epoch, and without steps the final
`best/epoch`, `best/dev_...` and `test/...` (see `ablation.training.evaluation.scores`).
"""

from typing import Final

#: The environment variable by which `mlflow run` passes on the run that it opened.
MLFLOW_RUN_ID: Final = "MLFLOW_RUN_ID"
#: MLflow's own tag for a run's parent.
PARENT: Final = "mlflow.parentRunId"
#: MLflow's own tag for the text on the page of a run or an experiment, in Markdown.
NOTE: Final = "mlflow.note.content"
KIND: Final = "ablation.kind"
SUITE: Final = "suite"
RUN: Final = "run"
STUDY: Final = "study"
TRIAL: Final = "trial"
CURVE_STUDY: Final = "curve study"
CURVE: Final = "curve"
BENCH: Final = "bench"
SUBMISSION: Final = "submission"
#: The run by which machines share the work of an experiment, see `ablation.tracking.leases`.
LEASES: Final = "leases"
#: On the experiment that names it: the id of that run.
LEASES_RUN: Final = "ablation.leases_run"
VARIANT: Final = "ablation.variant"
SPLIT: Final = "ablation.split"
SEED: Final = "ablation.seed"
#: Variant and split in one, by which MLflow's table groups the seeds.
ROW: Final = "ablation.row"
IDENTITY: Final = "ablation.identity"
#: Prefix of one tag for each part of the identity: config, data, encoder, code, libraries, members.
IDENTITY_PART: Final = "ablation.identity."
ENCODER: Final = "ablation.encoder"
PROFILE: Final = "ablation.profile"
SYNTHETIC: Final = "ablation.synthetic_data"
#: The corpus whose printed figures apply to the rows, or "none".
REFERENCE: Final = "ablation.reference"
CORPUS: Final = "ablation.corpus"
COMMIT: Final = "ablation.git_commit"
DIRTY: Final = "ablation.git_dirty"
#: host:pid:start of the process that writes the run, see `process_id`.
PROCESS: Final = "ablation.process"
REASON: Final = "ablation.reason"
#: On a run that an executor's process trains: the attempt's id, and the machine.
WORK: Final = "ablation.work"
WORKER: Final = "ablation.worker"
#: The id of a run in the spool of the process that asked a server for it: prevents doubled runs.
SPOOLED: Final = "ablation.spool_id"
#: On a copy of a run that was deleted on the server while it trained: the deleted run's id.
COPY_OF: Final = "ablation.copy_of_deleted_run"
COLLAPSED: Final = "ablation.collapsed"
#: JSON object, artifact path to size in bytes: the artifacts of a complete run.
MANIFEST: Final = "ablation.artifacts"
#: JSON object, artifact path to 16 hex digits of its SHA-256: reuse and reports check it.
DIGESTS: Final = "ablation.artifact_digests"
#: The text of `RECORD_FILE`, so that runs are reused without a request for each.
RECORD: Final = "ablation.record"
#: The number of metric points left out because they were not finite.
NOT_FINITE: Final = "ablation.points_not_finite"
#: An ensemble's members: JSON object, variant to how often it was selected.
MEMBERS: Final = "ablation.members"
#: JSON object, the same variants to the ids of the runs that were combined.
MEMBER_RUNS: Final = "ablation.member_runs"
#: When the test rows were predicted, ISO 8601; their labels are read only to score that.
TEST_READ: Final = "ablation.test_rows_read"
#: Prefix of one experiment tag for each reading of its test scores; the value is time and command.
TEST_READING: Final = "ablation.test_reading."
#: A study's name; a trial's number in it; how the trial ended: COMPLETE, PRUNED or FAIL.
STUDY_NAME: Final = "ablation.study"
TRIAL_NUMBER: Final = "ablation.trial_number"
TRIAL_STATE: Final = "ablation.trial_state"
#: The number of the earlier trial with the same parameters, whose value was used.
SAME_AS: Final = "ablation.same_as_trial"
#: JSON list of the settings for which each variant has its own value, because each was tuned.
OWN_FIELDS: Final = "ablation.tuned_fields"
#: JSON object: the settings that a run's variant replaces, as they would be without it.
REPLACED: Final = "ablation.replaced_settings"
#: On a suite whose variants are those of a file: the file's name.
VARIANTS_FROM: Final = "ablation.variants_file"
#: The digest of the labelled rows and of what the description says of them.
TRAIN_DATA: Final = "ablation.train_data"
#: The run whose kept weights predicted changed test rows.
PREDICTED_FROM: Final = "ablation.predicted_from"
#: The epoch after which a run continues that an earlier process began.
RESUMED: Final = "ablation.resumed_after_epoch"
#: On a run that `ablation unbundle` wrote: the id that it had where it was trained.
ORIGINAL: Final = "ablation.original_run"
#: JSON list of the ids of the runs that a suite reused instead of training them again; a long list
#: goes on in tags of this name with a number, see `ablation.tracking.reused`.
REUSED: Final = "ablation.reused_runs"

#: JSON object: watt-hours and grams of CO2 that training took, see `ablation.runs.energy`.
ENERGY: Final = "ablation.energy"

CONFIG_FILE: Final = "config.json"
RECORD_FILE: Final = "record.json"
TRACEBACK_FILE: Final = "traceback.txt"
ENVIRONMENT_FILE: Final = "environment.json"
DIFF_FILE: Final = "uncommitted.diff"
DEV_PREDICTIONS: Final = "predictions/dev.parquet"
TEST_PREDICTIONS: Final = "predictions/test.parquet"
#: Development predictions of every epoch, see `ablation.training.train_run.epoch_table`.
EPOCH_PREDICTIONS: Final = "predictions/epochs.parquet"
#: One batch's KL matrix, see `ablation.training.diagnostics`.
DISTANCES: Final = "language_distances.parquet"
#: A run's metric points (columns `step`, `name`, `value`): MLflow returns histories one by one.
CURVES: Final = "curves.parquet"
#: The artifacts that results are read from; no other names the ids of runs.
CHECKED_FILES: Final = (
    RECORD_FILE,
    CONFIG_FILE,
    DEV_PREDICTIONS,
    TEST_PREDICTIONS,
    EPOCH_PREDICTIONS,
    DISTANCES,
    CURVES,
)
#: On the suite run: how each run of the plan ended; reused ones with their original run id.
OUTCOMES_FILE: Final = "runs.json"
#: On the suite run: how its profile's settings were found, see `ablation.config.tuning_record`.
TUNING_FILE: Final = "tuning.json"
#: On the suite run: the file of variants that it was given, and sources of functions it names.
VARIANTS_FILE: Final = "variants.toml"
CODE_FOLDER: Final = "code"
#: On the suite run: texts and labels by row, which the runs' predictions refer to.
TRAIN_CORPUS: Final = "corpus/train.parquet"
TEST_CORPUS: Final = "corpus/test.parquet"
#: On the suite run: the corpus's layout, see `ablation.data.layout`.
CORPUS_LAYOUT: Final = "corpus/layout.json"
COMPARISON: Final = "comparison"
#: On a run of `ablation bench`: its table, and all figures that it was computed from.
BENCH_TABLE: Final = "bench.md"
BENCH_FIGURES: Final = "bench.json"
#: On a curve study's run: what its curves say of the paper's claims, with intervals over seeds.
VERDICTS_FILE: Final = "verdicts.json"
#: Measured at each point of a curve study, by optimizer step: norms of each term's gradient with
#: respect to the encoder's trained parameters, the cosine of the two, and the norm of their sum.
GRADIENTS: Final = (
    "gradient/regression",
    "gradient/contrastive",
    "gradient/cosine",
    "gradient/sum",
)


def metric_name(text: str) -> str:
    """Replace what MLflow's metric names can't have by hyphens, symbols beyond ASCII by numbers.

    >>> [metric_name(name) for name in ("dev1/epm+cl(attract)", "pearson_R&B", "dev1/\u2605")]
    ['dev1/epm-cl-attract', 'pearson_R-B', 'dev1/u2605']
    """
    return "/".join(map(_metric_part, text.split("/")))


def _metric_part(text: str) -> str:
    """Return a part of a metric's name between slashes; one without letters is all numbers."""
    if not any(map(str.isalnum, text)):
        return "".join(map(_code, text)) or "u"
    return "".join(
        c if c.isalnum() or c in "_-. " else "-" if c.isascii() else _code(c) for c in text
    ).rstrip("-")


def _code(character: str) -> str:
    return f"u{ord(character):x}"
