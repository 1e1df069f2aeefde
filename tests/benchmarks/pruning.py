"""Compare sweeps with and without pruning: best development Pearson, and epochs trained.

    python tests/benchmarks/pruning.py --pruner hyperband

Runs two sweeps of the same space, seed and sampler on the demo corpus in a temporary folder. An
epoch is counted if a trial logged its development Pearson.
"""

import argparse
import tempfile
from pathlib import Path
from typing import get_args

from ablation.tracking import names
from studies.study import Pruner, SweepRequest, resolve_sweep
from studies.sweep import SweepResult, sweep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="lr")
    parser.add_argument("--pruner", default="hyperband", choices=get_args(Pruner))
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pruners: tuple[Pruner, ...] = ("none", arguments.pruner)
        results = {pruner: _sweep(Path(folder), pruner, arguments) for pruner in pruners}
    (best, epochs), (pruned_best, pruned_epochs) = results.values()
    for pruner, (value, count) in results.items():
        print(f"{pruner}: best {value:.4f} in {count} epochs")
    print(
        f"{arguments.pruner}: {best - pruned_best:+.4f} short of the best, "
        f"in {pruned_epochs / epochs:.2f} of the epochs"
    )


def _sweep(folder: Path, pruner: Pruner, arguments: argparse.Namespace) -> tuple[float, int]:
    uri = f"sqlite:///{folder / pruner}.db"
    request = SweepRequest(
        space=arguments.space,
        study=pruner,
        trials=arguments.trials,
        pruner=pruner,
        seed=arguments.seed,
        tracking_uri=uri,
        overrides={"optimisation.epochs": arguments.epochs, "model.layers": arguments.layers},
    )
    result = sweep(resolve_sweep(request), lambda line: print(f"{pruner}: {line}", flush=True))
    return result.study.best_value, _epochs(result)


def _epochs(result: SweepResult) -> int:
    """Count the development points of all trials in MLflow."""
    client = result.resolved.store.client
    experiment = client.get_experiment_by_name("studies")
    assert experiment
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`{names.KIND}` = '{names.TRIAL}'", max_results=1000
    )
    return sum(len(client.get_metric_history(run.info.run_id, "dev/pearson")) for run in runs)


if __name__ == "__main__":
    main()
