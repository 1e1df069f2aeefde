"""What it saves to run frozen layers once: seconds of runs in one process, with and without kept outputs.

    python tests/benchmarks/frozen.py --depths 3,5 --epochs 2

Trains the demo profile's MSE + FT on the demo corpus, in turns: with dropout in the frozen layers (all
layers are run at every step), and on kept outputs, which the first such run computes. Prints
seconds of each run by the clock and by the processor (the machine may have other work), and the bytes kept.
"""

import argparse
import time
from dataclasses import replace

from ablation.config.schema import load_profile, resolve_config
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

    def seconds(depth: int, dropout: bool, outputs: FrozenLayerCache) -> tuple[float, float]:
        config = resolve_config(
            profile | {"model.freeze_layers": depth, "model.frozen_dropout": dropout}, "mse+ft"
        )
        began, began_cpu = time.perf_counter(), time.process_time()
        train_run.train_run(
            replace(prepared, frozen=outputs), config, RunKey("mse+ft", "dev1", 0), "", NO_HOOKS
        )
        return time.perf_counter() - began, time.process_time() - began_cpu

    seconds(0, True, FrozenLayerCache())  # not reported: the first run also allocates
    for depth in map(int, arguments.depths.split(",")):
        outputs = FrozenLayerCache()
        runs = [
            (seconds(depth, True, outputs), seconds(depth, False, outputs))
            for _ in range(arguments.rounds)
        ]
        whole, kept = zip(*runs, strict=True)
        size = sum(hidden.values.nbytes for hidden in outputs.made.values())
        for name, each in (("all layers run", whole), ("outputs kept", kept)):
            print(
                f"{depth} frozen, {name}: {', '.join(f'{clock:.1f} s ({cpu:.1f})' for clock, cpu in each)}"
            )
        clock, cpu = (min(w[i] for w in whole) / min(k[i] for k in kept) for i in (0, 1))
        print(
            f"{depth} frozen: {clock:.2f} times as fast ({cpu:.2f}), {size / 2**20:.1f} MiB kept",
            flush=True,
        )


if __name__ == "__main__":
    main()
