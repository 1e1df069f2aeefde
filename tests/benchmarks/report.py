"""How long and how much memory a report on many runs takes.

    python tests/benchmarks/report.py --runs 500

Makes up an experiment of that many runs (11 epochs of curves, MINT's number of rows) in a
temporary SQLite store, then builds its report in a process of its own, and prints seconds and
peak memory. Making the runs takes longer than the report.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")
#: Of each of six languages: 3,900 test rows in all, as MINT has labelled.
ROWS = 650
POINTS = 11 * 12
MEASURE = """
import json, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from reports.build import Choice, build
built = build(Choice(tracking_uri=sys.argv[1]), Path(sys.argv[2]), log=False)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": peak / 2**20}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    sys.path.insert(0, str(ROOT))
    from tests.reports.conftest import write_experiment

    with tempfile.TemporaryDirectory() as scratch:
        uri = f"sqlite:///{scratch}/mlflow.db"
        seeds = range(max(1, runs // (2 * len(VARIANTS))))
        noise = {variant: 0.5 + 0.1 * i for i, variant in enumerate(VARIANTS)}
        curve = 0.8 - np.exp(-np.arange(1, POINTS + 1) / 30)
        write_experiment(uri, noise=noise, seeds=seeds, rows=ROWS, curves=lambda variant, seed: curve)
        command = [sys.executable, "-c", MEASURE, uri, f"{scratch}/report"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout.splitlines()[-1])
    print(f"{2 * len(VARIANTS) * len(seeds)} runs: {measured['seconds']:.1f} s, peak {measured['peak_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
