"""The tags, metrics and artifacts that this suite writes; whoever reads a store imports them from here.

Metrics: `train/...` and `lr/...` by optimizer step, `dev/...` by epoch, and by name without steps
the finals `best/epoch`, `best/dev_...` and `test/...` (see `ablation.training.evaluation.scores`).
"""

from typing import Final

#: The environment variable by which `mlflow run` hands on the run that it opened.
MLFLOW_RUN_ID: Final = "MLFLOW_RUN_ID"
#: MLflow's own tag for the run that a run stands below.
PARENT: Final = "mlflow.parentRunId"
KIND: Final = "ablation.kind"
SUITE: Final = "suite"
RUN: Final = "run"
STUDY: Final = "study"
TRIAL: Final = "trial"
CURVE_STUDY: Final = "curve study"
CURVE: Final = "curve"
BENCH: Final = "bench"
VARIANT: Final = "ablation.variant"
SPLIT: Final = "ablation.split"
SEED: Final = "ablation.seed"
IDENTITY: Final = "ablation.identity"
#: One tag for each part of the identity: config, data, encoder, code, libraries (and members).
IDENTITY_PART: Final = "ablation.identity."
ENCODER: Final = "ablation.encoder"
PROFILE: Final = "ablation.profile"
SYNTHETIC: Final = "ablation.synthetic_data"
CORPUS: Final = "ablation.corpus"
COMMIT: Final = "ablation.git_commit"
DIRTY: Final = "ablation.git_dirty"
#: host:pid:start of the process that writes the run.
PROCESS: Final = "ablation.process"
REASON: Final = "ablation.reason"
#: What a run was called by the process that asked a tracking server to make it, so that it is made once.
SPOOLED: Final = "ablation.spool_id"
COLLAPSED: Final = "ablation.collapsed"
#: JSON object, artifact path to its size in bytes: what a whole run consists of.
MANIFEST: Final = "ablation.artifacts"
#: How many points were left out because they were not finite numbers.
NOT_FINITE: Final = "ablation.points_not_finite"
#: An ensemble's members: JSON object, variant to how often it was selected.
MEMBERS: Final = "ablation.members"
#: JSON object, the same variants to the ids of the runs that were combined.
MEMBER_RUNS: Final = "ablation.member_runs"
#: When the test rows were predicted, ISO 8601; their labels are read only to score that.
TEST_READ: Final = "ablation.test_rows_read"
#: The name of a study; a trial's number in it, and how it ended: COMPLETE, PRUNED or FAIL.
STUDY_NAME: Final = "ablation.study"
TRIAL_NUMBER: Final = "ablation.trial_number"
TRIAL_STATE: Final = "ablation.trial_state"
#: The number of the earlier trial with the same parameters, whose value was taken.
SAME_AS: Final = "ablation.same_as_trial"
#: JSON list of the settings that each variant has values of its own for, since each was tuned.
OWN_FIELDS: Final = "ablation.tuned_fields"
#: After which epoch a run goes on that an earlier process had begun.
RESUMED: Final = "ablation.resumed_after_epoch"
#: The runs that a suite reused instead of training them again, JSON list of run ids.
REUSED: Final = "ablation.reused_runs"

CONFIG_FILE: Final = "config.json"
RECORD_FILE: Final = "record.json"
TRACEBACK_FILE: Final = "traceback.txt"
ENVIRONMENT_FILE: Final = "environment.json"
DIFF_FILE: Final = "uncommitted.diff"
DEV_PREDICTIONS: Final = "predictions/dev.parquet"
TEST_PREDICTIONS: Final = "predictions/test.parquet"
#: One batch's KL matrix, see `ablation.training.diagnostics`.
DISTANCES: Final = "language_distances.parquet"
#: The metric points of a run (columns `step`, `name`, `value`): MLflow gives histories one metric and run at a time.
CURVES: Final = "curves.parquet"
#: On the suite run: how each run of the plan ended, reused ones with the id that they were trained under.
OUTCOMES_FILE: Final = "runs.json"
#: On the suite run: how its profile's settings were found, see `ablation.config.tuning_record`.
TUNING_FILE: Final = "tuning.json"
#: On the suite run: texts and labels by row, which the runs' predictions refer to.
TRAIN_CORPUS: Final = "corpus/train.parquet"
TEST_CORPUS: Final = "corpus/test.parquet"
COMPARISON: Final = "comparison"
#: On a run of `ablation bench`: its table, and every figure that it was made of.
BENCH_TABLE: Final = "bench.md"
BENCH_FIGURES: Final = "bench.json"
#: On a curve study's run: what its curves say of the paper's claims, with intervals over seeds.
VERDICTS_FILE: Final = "verdicts.json"
#: What is measured at each point of a curve study, by optimizer step: norms of each term's gradient with respect to the
#: encoder's trained parameters, the cosine between the two, and the norm of their sum.
GRADIENTS: Final = (
    "gradient/regression",
    "gradient/contrastive",
    "gradient/cosine",
    "gradient/sum",
)
