"""Keep the weights of a suite's runs, and drop those of runs that a better one has beaten."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablation.core.identity import RunKey
from ablation.data.corpus import Corpus
from ablation.runs.plan import PlannedRun
from ablation.runs.request import Keep
from ablation.runs.results import RunOutcome
from ablation.training.records import RunRecord

if TYPE_CHECKING:
    from ablation.models.kept_weights import AboutModel
    from ablation.training.train_run import Prepared, RunResult


def select_kept(
    scores: Sequence[tuple[RunKey, float | None]],
    members: Mapping[RunKey, Sequence[RunKey]],
    keep: Keep,
) -> set[RunKey]:
    """Select the runs whose weights stay, by development rows.

    Args:
        scores: Each finished run with its pooled Pearson on development rows; the ensembles too.
        members: The runs that each ensemble averages.
        keep: "all"; "rows": the best seed of each row and split; "best": the best run of each
            split; "none". An ensemble that is selected stands for its members. Of equal scores the
            first is taken, and a run without a score is never the best.
    """
    if keep == "none":
        return set()
    if keep == "all":
        best = {key for key, _ in scores}
    else:
        top: dict[tuple[str, ...], tuple[RunKey, float]] = {}
        for key, score in scores:
            group = (key.split,) if keep == "best" else (key.split, key.variant)
            if score is not None and (group not in top or score > top[group][1]):
                top[group] = (key, score)
        best = {key for key, _ in top.values()}
    return {run for key in best for run in members.get(key, [key])}


def drop_beaten(
    plan: Sequence[PlannedRun], outcomes: Mapping[RunKey, RunOutcome], keep: Keep
) -> None:
    """Remove the kept weights of this suite's runs that `keep` does not select so far.

    Runs that an ensemble may still choose stay, and so do reused ones, which an earlier command
    kept.
    """
    from ablation.models.kept_weights import remove_kept

    records = {key: outcome.record for key, outcome in outcomes.items() if outcome.record}
    stay = select_kept(
        [(key, record.dev.get("pearson")) for key, record in records.items()],
        {key: members_of(key, record.members) for key, record in records.items() if record.members},
        keep,
    )
    pending = {
        (run.key.split, run.key.seed)
        for run in plan
        if run.config is None and run.key not in outcomes
    }
    remove_kept(
        [
            record.identity
            for key, record in records.items()
            if outcomes[key].state == "finished"
            and key not in stay
            and (key.split, key.seed) not in pending
        ]
    )


def members_of(ensemble: RunKey, members: Mapping[str, int]) -> list[RunKey]:
    """Return the keys of an ensemble's members, which share its split and seed."""
    return [RunKey(variant, ensemble.split, ensemble.seed) for variant in members]


def keep_run(corpus: Corpus, run: PlannedRun, prepared: "Prepared", result: "RunResult") -> str:
    """Keep the weights of a run that was trained; return "", or why they could not be kept."""
    from ablation.models.kept_weights import keep_weights

    if result.model is None:
        return ""
    try:
        keep_weights(result.model, prepared.vocabulary, about(corpus, run, result.record))
    except OSError as error:
        return f"weights not kept: {error.strerror or error}"
    return ""


def about(corpus: Corpus, run: PlannedRun, record: RunRecord) -> "AboutModel":
    """Describe the origin of a trained run's model."""
    from ablation.models.kept_weights import AboutModel

    if run.config is None:
        raise AssertionError("an ensemble has no weights of its own")
    return AboutModel(
        identity=record.identity,
        variant=run.key.variant,
        split=run.key.split,
        seed=run.key.seed,
        config=run.config,
        parts=dict(run.identity.parts),
        corpus=corpus.name,
        reference=corpus.reference,
        synthetic=corpus.synthetic,
        languages=tuple(
            code for code in corpus.training_languages if code not in record.unseen_in_training
        ),
        label_range=corpus.layout.label_range,
        is_pair="second_text" in corpus.train,
        best_epoch=record.best_epoch,
        dev_pearson=record.dev.get("pearson"),
    )
