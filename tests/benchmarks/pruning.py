"""Does pruning pay? The same space, seed and sampler with and without it: best development Pearson and epochs trained.

    python tests/benchmarks/pruning.py --pruner hyperband

Two sweeps on the demo corpus in a temporary folder; an epoch is counted where a trial logged its development Pearson.
"""

import argparse
import tempfile
from pathlib import Path

from ablation.tracking import names
from studies.study import SweepRequest, resolve_sweep
from studies.sweep import SweepResult, sweep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="lr")
    parser.add_argument("--pruner", default="hyperband")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = {
            pruner: _sweep(Path(folder), pruner, arguments) for pruner in ("none", arguments.pruner)
        }
    (best, epochs), (pruned_best, pruned_epochs) = results.values()
    for pruner, (value, count) in results.items():
        print(f"{pruner}: best {value:.4f} in {count} epochs")
    print(
        f"{arguments.pruner}: {best - pruned_best:+.4f} short of the best, in {pruned_epochs / epochs:.2f} of the epochs"
    )


def _sweep(folder: Path, pruner: str, arguments: argparse.Namespace) -> tuple[float, int]:
    uri = f"sqlite:///{folder / pruner}.db"
    request = SweepRequest(
        space=arguments.space,
        study=pruner,
        trials=arguments.trials,
        pruner=pruner,
        seed=arguments.seed,
        tracking_uri=uri,
        overrides=(f"optimisation.epochs={arguments.epochs}", f"model.layers={arguments.layers}"),
    )
    swept = sweep(resolve_sweep(request), lambda line: print(f"{pruner}: {line}", flush=True))
    return swept.study.best_value, _epochs(swept)


def _epochs(swept: SweepResult) -> int:
    """Development points of all trials, as MLflow has them."""
    client = swept.laid.store.client
    experiment = client.get_experiment_by_name("studies")
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`{names.KIND}` = '{names.TRIAL}'", max_results=1000
    )
    return sum(len(client.get_metric_history(run.info.run_id, "dev/pearson")) for run in runs)


if __name__ == "__main__":
    main()
