"""Predict changed test rows by the kept weights of a run that was trained on the same rows."""

from typing import TYPE_CHECKING

from ablation.core.errors import UsageError
from ablation.runs.context import RunContext
from ablation.runs.keeping import about
from ablation.runs.plan import PlannedRun
from ablation.tracking import names
from ablation.tracking.reading import read_frame, read_record, read_run
from ablation.tracking.runs import TrackedRun
from ablation.tracking.sources import listed_artifacts
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.training.train_run import RunResult


def predict_new_rows(
    context: RunContext, tracked: TrackedRun, run: PlannedRun, *, keep: bool
) -> "RunResult":
    """Make the result that a run has on the corpus's test rows, without training it again.

    Its development scores, its curves and its costs are those of the run that was trained.

    Args:
        context: What the run shares with others.
        tracked: The MLflow run, which gets what training would have logged.
        run: The run, with the one whose weights it takes.
        keep: Keep the weights for this run too.

    Raises:
        UsageError: The weights are gone, corrupt, or do not fit the encoder.
        RunError: What the other run logged can't be read.
        OSError: The weights can't be kept.
    """
    from ablation.models.kept_weights import copy_kept, find_kept, rebuild
    from ablation.training.train_run import RunResult, predict_test_rows, test_scores

    past, config, store = run.weights_of, run.config, context.store
    if past is None or config is None:
        raise AssertionError(f"{run.key}: has no run to take weights of")
    kept = find_kept(past.identity)
    if kept is None:
        raise UsageError("its kept weights were removed")
    record = RunRecord.model_validate(read_record(store, past.run_id))
    dev = read_frame(store, past.run_id, names.DEV_PREDICTIONS)
    logged = listed_artifacts(read_run(store, store.client.get_run(past.run_id)))
    tables = {
        path: read_frame(store, past.run_id, path)
        for path in (names.CURVES, names.DISTANCES)
        if path in logged
    }
    model, encoder = rebuild(kept)
    test = None
    if context.corpus.test is not None:
        test = predict_test_rows(model, encoder, config, context.corpus)
    scored = None if test is None else test_scores(test, context.corpus)
    record = record.model_copy(update={"identity": run.identity.digest, "test": scored})
    tracked.log_params(config.flat())
    tracked.log_json(names.CONFIG_FILE, config.model_dump(mode="json"))
    tracked.set_tags({names.PREDICTED_FROM: past.run_id})
    if names.CURVES in tables:
        tracked.log_table(names.CURVES, tables[names.CURVES])
    if keep:
        copy_kept(kept, about(context.corpus, run, record))
    return RunResult(record, dev, test, None, tables.get(names.DISTANCES))
