"""Time `ablation plan` on thousands of runs, none of which or all of which have finished.

    python -m tests.benchmarks.many_runs --runs 10000

Ten finished runs are written as the runner writes them, in a temporary folder. The others are
copies of their rows in the database, with a seed and an identity of their own; they share the
artifacts. So writing them takes milliseconds each, and a plan reads and checks as much as of real
ones.
"""

import argparse
import resource
import sqlite3
import tempfile
import time
import uuid
from pathlib import Path

import ablation
from ablation.bench.subprocesses import run_command
from ablation.bench.synthetic_runs import make_request, write_corpus, write_runs
from ablation.runs.plan import PlannedRun
from ablation.tracking import names

#: MLflow's tables with a column `run_uuid`.
TABLES = ("runs", "tags", "params", "metrics", "latest_metrics")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="a multiple of ten")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, file = folder / "corpus", folder / "mlflow.db"
        write_corpus(corpus, 2_000, 500)
        request = make_request(corpus, f"sqlite:///{file}", runs)
        arguments = ["--data", str(corpus), "--profile", "smoke", "--splits", "dev1,dev2"]
        arguments += ["--variants", ",".join(map(str, request.variants))]
        arguments += ["--seeds", f"0-{request.seeds[-1]}"]
        run_command(["plan", *arguments], folder, request.tracking_uri)  # measures the steps
        print_time("none finished", folder, arguments, request.tracking_uri)
        write_runs(make_request(corpus, f"sqlite:///{file}", 10))
        began = time.perf_counter()
        copy_runs(file, ablation.plan(request).runs)
        print(f"writing {runs} runs: {time.perf_counter() - began:.1f} s")
        reused = sum(run.is_reused for run in ablation.plan(request).runs)
        print_time(f"{reused} finished", folder, arguments, request.tracking_uri)


def print_time(what: str, folder: Path, arguments: list[str], store: str | None) -> None:
    before = processor_s()
    seconds = run_command(["plan", *arguments], folder, store)
    processor = processor_s() - before
    print(f"plan, {what}: {seconds:.1f} s, {processor:.1f} s of a processor", flush=True)


def processor_s() -> float:
    """Return the processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def copy_runs(file: Path, planned: list[PlannedRun]) -> None:
    """Write every planned run that has not finished as a copy of a finished one of its row."""
    finished = {(run.key.variant, run.key.split): run for run in planned if run.is_reused}
    with sqlite3.connect(file) as database:
        columns = {
            table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            for table in TABLES
        }
        for run in planned:
            if not run.is_reused:
                original = finished[run.key.variant, run.key.split]
                copy_run(database, columns, original, run)


def copy_run(
    database: sqlite3.Connection,
    columns: dict[str, list[str]],
    original: PlannedRun,
    run: PlannedRun,
) -> None:
    new = uuid.uuid4().hex
    for table, fields in columns.items():
        taken = ", ".join("?" if name == "run_uuid" else name for name in fields)
        database.execute(
            f"INSERT INTO {table} ({', '.join(fields)}) SELECT {taken} FROM {table}"
            " WHERE run_uuid = ?",
            (new, original.run_id),
        )
    tags = {names.SEED: str(run.key.seed), names.IDENTITY: run.identity.digest}
    for key, value in tags.items():
        database.execute(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?", (value, new, key)
        )


if __name__ == "__main__":
    main()
