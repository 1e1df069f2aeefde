"""What the runs still to do would take, from costs that were measured now or for an earlier plan.

torch is imported only where something is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ablation.config.schema import RunConfig
from ablation.core.identity import RunKey
from ablation.data.splits import Split, make_split
from ablation.runs.context import Preparations
from ablation.runs.costs import Cost, Lengths, Measured, cost_key, load_cost, save_cost
from ablation.runs.plan import PlannedRun
from ablation.runs.request import ResolvedRun


@dataclass(frozen=True)
class Estimates:
    """Seconds for each run that would be trained; the costs behind them, and how many of those an earlier plan had measured."""

    seconds: dict[RunKey, float]
    costs: Sequence[Measured]
    from_earlier: int

    @property
    def memory_bytes(self) -> int:
        return max((each.cost.memory_bytes for each in self.costs), default=0)

    @property
    def oldest(self) -> str:
        """When the oldest of the costs was measured, as it is read."""
        return min(each.when for each in self.costs).replace("T", " ").replace("+00:00", " UTC")


def estimate_all(planned: ResolvedRun, *, anew: bool) -> Estimates:
    """What the runs still to do would take; with `anew`, kept costs are not used. Raises UsageError as `prepare_all` does.

    A kept cost says too that the encoder could be loaded, and had the layers asked for. The run that a cost belongs
    to first also bears what it leaves to the later ones: frozen layers' outputs.
    """
    preparations = Preparations(planned.corpus)
    found: dict[str, Measured] = {}
    seconds: dict[RunKey, float] = {}
    from_earlier = 0
    for run in planned.runs:
        if run.config is None or run.is_reused:
            continue
        key, once = cost_key(run, run.config), 0.0
        if key not in found:
            kept = None if anew else load_cost(key)
            from_earlier += kept is not None
            found[key] = kept or _measure(planned, run, run.config, preparations)
            if kept is None:
                save_cost(key, found[key])
            once = found[key].cost.keep_token_s * found[key].lengths.of_all
        split = make_split(planned.corpus, run.key.split, run.config.data.split_seed)
        seconds[run.key] = once + run_seconds(
            found[key].lengths, run.config, split, found[key].cost
        )
    return Estimates(seconds, list(found.values()), from_earlier)


def run_seconds(lengths: Lengths, config: RunConfig, split: Split, cost: Cost) -> float:
    """What one run takes: all epochs with their development rows, and the test rows once."""
    epochs = config.optimisation.epochs
    trained = epochs * lengths.train[split.train].sum()
    predicted = epochs * lengths.train[split.dev].sum() + lengths.of_test
    return float(trained * cost.train_token_s + predicted * cost.predict_token_s)


def _measure(
    planned: ResolvedRun, run: PlannedRun, config: RunConfig, preparations: Preparations
) -> Measured:
    from ablation.runs.step_timing import time_steps
    from ablation.training.train_run import check_trainable

    prepared = preparations.get(config)
    check_trainable(config, prepared)
    split = make_split(planned.corpus, run.key.split, config.data.split_seed)
    when = datetime.now(UTC).isoformat(timespec="minutes")
    test = None if prepared.test is None else prepared.test.lengths
    return Measured(
        time_steps(prepared, config, split), Lengths(prepared.train.lengths, test), when
    )
