"""Estimate how long planned runs take, from costs measured now or for an earlier plan.

torch is imported only if something has to be measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ablation.config.schema import RunConfig
from ablation.core.identity import RunKey
from ablation.data.splits import Split, make_split
from ablation.runs.context import Preparations
from ablation.runs.costs import Cost, Lengths, MeasuredCost, cost_key, load_cost, save_cost
from ablation.runs.placement import torch_threads
from ablation.runs.plan import PlannedRun
from ablation.runs.request import ResolvedRun


@dataclass(frozen=True)
class Estimates:
    """The estimated time of the runs to train.

    Attributes:
        seconds: Estimated seconds of each run.
        costs: The measured costs behind them.
        from_earlier: How many of the costs were measured for an earlier plan.
        weights_bytes: Size of each run's weights.
    """

    seconds: dict[RunKey, float]
    costs: Sequence[MeasuredCost]
    from_earlier: int
    weights_bytes: dict[RunKey, int]

    def kept_bytes(self, planned: ResolvedRun) -> int:
        """Return the most that the weights of the runs to train occupy once all have finished."""
        keep = planned.request.keep
        if keep == "none":
            return 0
        if keep == "all":
            return sum(self.weights_bytes.values())
        combined = {run.key.split for run in planned.runs if run.config is None}
        groups: dict[tuple[str, ...], list[int]] = {}
        for key, size in self.weights_bytes.items():
            # An ensemble's members come from every row.
            is_row = keep == "rows" or key.split in combined
            group = (key.split, key.variant) if is_row else (key.split,)
            groups.setdefault(group, []).append(size)
        # A row keeps its best seed, and the seed that the best ensemble uses.
        most = dict.fromkeys(combined, 2 if keep == "rows" else 1)
        return sum(
            sum(sorted(sizes, reverse=True)[: most.get(group[0], 1)])
            for group, sizes in groups.items()
        )

    @property
    def memory_bytes(self) -> int:
        """Peak memory of the largest run; 0 if there is nothing to train."""
        return max((measured.cost.memory_bytes for measured in self.costs), default=0)

    @property
    def oldest(self) -> str:
        """Return when the oldest of the costs was measured, for a reader."""
        return (
            min(measured.when for measured in self.costs)
            .replace("T", " ")
            .replace("+00:00", " UTC")
        )


def estimate_all(planned: ResolvedRun, *, anew: bool) -> Estimates:
    """Estimate the runs that are still to train, each with its own number of threads.

    The first run of a cost also computes the frozen layers' outputs that later ones share. A kept
    cost implies that the encoder could be loaded and has the requested layers.

    Args:
        planned: The resolved plan.
        anew: Measure although an earlier plan's costs are kept.

    Raises:
        UsageError: An encoder can't be loaded, or not be trained as the settings say.
    """
    preparations = Preparations(planned.corpus)
    costs: dict[str, MeasuredCost] = {}
    seconds: dict[RunKey, float] = {}
    weights_bytes: dict[RunKey, int] = {}
    from_earlier, threads = 0, chosen_threads(planned)
    # Runs of one variant have the same settings, and those on one split the same rows.
    keys: dict[str, str] = {}
    training_s: dict[tuple[str, str], float] = {}
    for run in planned.runs:
        if run.config is None or run.is_reused:
            continue
        name, caching_s = run.key.variant, 0.0
        if name not in keys:
            keys[name] = cost_key(run, run.config, threads)
        if (key := keys[name]) not in costs:
            stored = None if anew else load_cost(key)
            from_earlier += stored is not None
            costs[key] = stored or _measure(planned, run, preparations, threads)
            if stored is None:
                save_cost(key, costs[key])
            caching_s = costs[key].cost.cache_token_s * costs[key].lengths.total
        of_split = (name, run.key.split)
        if of_split not in training_s:
            data = run.config.data
            split = make_split(planned.corpus, run.key.split, data.split_seed, data.equal_texts)
            measured = costs[key]
            training_s[of_split] = run_seconds(measured.lengths, run.config, split, measured.cost)
        seconds[run.key] = caching_s + training_s[of_split]
        weights_bytes[run.key] = costs[key].cost.weights_bytes
    return Estimates(seconds, list(costs.values()), from_earlier, weights_bytes)


def run_seconds(lengths: Lengths, config: RunConfig, split: Split, cost: Cost) -> float:
    """Return the seconds of one run: all epochs with their development rows, test rows once."""
    epochs = config.optimisation.epochs
    trained = epochs * lengths.train[split.train].sum()
    predicted = epochs * lengths.train[split.dev].sum() + lengths.test_total
    return float(trained * cost.train_token_s + predicted * cost.predict_token_s)


def chosen_threads(planned: ResolvedRun) -> int:
    """Return the number of threads of a run on a CPU; 0 for the machine's own."""
    if planned.place.is_here and planned.request.cpus_per_run is None:
        return 0  # torch need not be imported
    import torch

    threads = planned.resources.threads
    return 0 if planned.resources.gpus or threads == torch.get_num_threads() else threads


def _measure(
    planned: ResolvedRun, run: PlannedRun, preparations: Preparations, threads: int
) -> MeasuredCost:
    from ablation.runs.step_timing import time_steps
    from ablation.training.train_run import check_trainable

    config = run.config
    assert config is not None, "an ensemble trains nothing"
    prepared = preparations.get(config)
    check_trainable(config, prepared)
    data = config.data
    split = make_split(planned.corpus, run.key.split, data.split_seed, data.equal_texts)
    when = datetime.now(UTC).isoformat(timespec="minutes")
    test = None if prepared.test is None else prepared.test.lengths
    with torch_threads(threads):
        cost = time_steps(prepared, config, split)
    return MeasuredCost(cost, Lengths(prepared.train.lengths, test), when)
