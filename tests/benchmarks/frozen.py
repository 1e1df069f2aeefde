"""Time frozen tuning in one process, with and without the cache of frozen layers' cache.

    python tests/benchmarks/frozen.py --depths 3,5 --epochs 2

Trains the demo profile's MSE + FT on the demo corpus, in turns: with dropout in the frozen layers,
so that all layers run at every step, and on cached cache, which the first such run computes.
Prints each run's seconds by the clock and by the processor (the machine may have other work), and
the size of the cache.
"""

import argparse
import time
from dataclasses import replace

from ablation.config.overrides import load_profile, resolve_config
from ablation.core.identity import RunKey
from ablation.data.corpus import load_corpus
from ablation.training import train_run
from ablation.training.frozen_cache import FrozenLayerCache
from ablation.training.loop import NO_HOOKS


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="demo")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--depths", default="3,5")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    profile = load_profile(arguments.profile) | {"optimisation.epochs": arguments.epochs}
    prepared = train_run.prepare(load_corpus(arguments.data), resolve_config(profile, "mse+ft"))
    print(f"{len(prepared.train)} labelled rows, {prepared.train.lengths.sum()} tokens")

    def seconds(depth: int, dropout: bool, cache: FrozenLayerCache) -> tuple[float, float]:
        config = resolve_config(
            profile | {"model.freeze_layers": depth, "model.frozen_dropout": dropout}, "mse+ft"
        )
        began, began_cpu = time.perf_counter(), time.process_time()
        train_run.train_run(
            replace(prepared, frozen=cache), config, RunKey("mse+ft", "dev1", 0), "", NO_HOOKS
        )
        return time.perf_counter() - began, time.process_time() - began_cpu

    seconds(0, True, FrozenLayerCache())  # not reported: the first run also allocates memory
    for depth in map(int, arguments.depths.split(",")):
        cache = FrozenLayerCache()
        runs = [
            (seconds(depth, True, cache), seconds(depth, False, cache))
            for _ in range(arguments.rounds)
        ]
        whole, kept = zip(*runs, strict=True)
        size = sum(hidden.values.nbytes for hidden in cache.outputs.values())
        for name, times in (("all layers run", whole), ("cached", kept)):
            text = ", ".join(f"{clock:.1f} s ({cpu:.1f})" for clock, cpu in times)
            print(f"{depth} frozen, {name}: {text}")
        clock, cpu = (min(w[i] for w in whole) / min(k[i] for k in kept) for i in (0, 1))
        print(
            f"{depth} frozen: {clock:.2f} times as fast ({cpu:.2f}), {size / 2**20:.1f} MiB kept",
            flush=True,
        )


if __name__ == "__main__":
    main()
