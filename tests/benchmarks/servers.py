"""Count what a suite's runs ask of a tracking server, its database and its artifacts' store.

    python -m tests.benchmarks.servers --workers 8 --seeds 0-3

Trains rows of Table 3 with the smoke profile in `workers` processes against `mlflow server` on
SQLite, behind a proxy that counts requests, in a temporary folder. Requests, bytes and the server's
own processor time do not depend on how fast this machine trains; the rates do.
"""

import argparse
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import ablation
from tests.tracking.servers import Proxy, Server, serve

#: Seconds between two looks at the number of requests so far.
LOOK_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", default="0-3")
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (server, proxy):
        request = ablation.RunRequest(
            profile="smoke",
            variants=("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft"),
            splits=("dev1",),
            seeds=tuple(seeds),
            overrides={"optimisation.epochs": arguments.epochs},
            tracking_uri=proxy.uri,
            keep="none",
            on=f"local:{arguments.workers}",
            cpus_per_run=1,
        )
        planned = ablation.plan(request)
        before, began = Usage(server, proxy), time.monotonic()
        with watched(proxy) as rates:
            outcomes = ablation.run(planned)
        seconds = time.monotonic() - began
        finished = sum(outcome.state == "finished" for outcome in outcomes)
        print_usage(before, Usage(server, proxy), finished, seconds)
        print(f"busiest second: {max(rates, default=0):.0f} requests")


class Usage:
    """The requests, processor time and files of a server so far."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.requests = Counter(proxy.requests)
        self.processor_s = processor_seconds(server)
        self.database = (server.folder / "mlflow.db").stat().st_size
        files = [file for file in (server.folder / "artifacts").rglob("*") if file.is_file()]
        self.files, self.bytes = len(files), sum(file.stat().st_size for file in files)


def print_usage(before: Usage, after: Usage, runs: int, seconds: float) -> None:
    """Print what happened between two looks, for each run and each second."""
    asked: Counter[str] = Counter()
    for path, count in (after.requests - before.requests).items():
        asked[endpoint(path)] += count
    total, processor_s = sum(asked.values()), after.processor_s - before.processor_s
    print(f"{runs} runs in {seconds:.0f} s")
    print(f"requests: {total}, {total / runs:.0f} a run, {total / seconds:.1f} a second")
    for name, count in asked.most_common():
        print(f"  {name}: {count / runs:.1f} a run")
    print(f"the server's processor time: {processor_s / runs:.2f} s a run,", end=" ")
    print(f"{1000 * processor_s / total:.0f} ms a request")
    print(f"database: {(after.database - before.database) / runs / 1000:.0f} kB a run")
    files, size = after.files - before.files, after.bytes - before.bytes
    print(f"artifacts: {files / runs:.0f} files and {size / runs / 1000:.0f} kB a run")


def endpoint(path: str) -> str:
    """Return the name of what a request asks for, without ids and names of files."""
    if "/mlflow-artifacts/" in path:
        return "artifacts"
    path = re.sub(r"^/(ajax-)?api/[0-9.]+/mlflow/", "", path)
    return re.sub(r"/m-[0-9a-f]{32}\b", "/ID", path)


def processor_seconds(server: Server) -> float:
    """Return the processor time of the server's processes so far."""
    top = psutil.Process(server.pid)
    times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


@contextmanager
def served(folder: Path) -> Iterator[tuple[Server, Proxy]]:
    """Start a server on SQLite and the proxy in front of it, and end both."""
    server = serve(folder)
    try:
        yield server, Proxy(server.port)
    finally:
        server.kill()


@contextmanager
def watched(proxy: Proxy) -> Iterator[list[float]]:
    """Collect the requests of each second, until the block ends."""
    rates: list[float] = []
    done = threading.Event()

    def watch() -> None:
        before, at = sum(proxy.requests.values()), time.monotonic()
        while not done.wait(LOOK_S):
            now, count = time.monotonic(), sum(proxy.requests.values())
            rates.append((count - before) / (now - at))
            before, at = count, now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield rates
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
