"""Measure tracking's share of training time, on SQLite and on a server on this machine.

The difference of two wall times can't show one percent on a machine whose speed varies by ten
percent. So tracking's own time is summed: the seconds that the training thread spends in its hooks,
and the processor time of tracking's threads, which at worst is all taken from training.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import psutil

from ablation.bench.table import Row
from ablation.bench.workload import Workload, one_epoch, our_model
from ablation.core.errors import RunError
from ablation.tracking.runs import start_run
from ablation.tracking.store import experiment_id, open_store
from ablation.training import parallel
from ablation.training.loop import Hooks, TrainingData, fit

TARGET: Final = 0.01
_SERVER_PATIENCE_S: Final = 120


def measure_tracking(workload: Workload, rounds: int) -> list[Row]:
    """Return tracking's share of training time, on both kinds of store."""
    with tempfile.TemporaryDirectory() as folder:
        local = f"sqlite:///{Path(folder) / 'local.db'}"
        shares = {"SQLite": [tracking_share(workload, local) for _ in range(rounds)]}
        with loopback_server(Path(folder)) as address:
            shares["a loopback server"] = [tracking_share(workload, address) for _ in range(rounds)]
    return [
        Row(
            "tracking",
            f"tracking's share of training time, {store}",
            tuple(values),
            "%",
            "at most",
            TARGET,
        )
        for store, values in shares.items()
    ]


def tracking_share(workload: Workload, uri: str) -> float:
    """Return the share for one epoch tracked as a run's: points, system metrics, final tags."""
    store = open_store(uri)
    tracked = start_run(store, experiment_id(store, "bench"), "tracking", {})
    model, in_hooks = our_model(workload), 0.0

    def timed(hook: Callable[[], None]) -> None:
        nonlocal in_hooks
        began = time.perf_counter()
        hook()
        in_hooks += time.perf_counter() - began

    def on_point(values: Mapping[str, float], step: int) -> None:
        timed(lambda: tracked.log_metrics(values, step))

    threads_before, began = _tracking_seconds(), time.perf_counter()
    try:
        fit(
            model,
            TrainingData(
                workload.texts, workload.texts.take(np.arange(1)), lambda p: {"pearson": 0.0}
            ),
            one_epoch(workload.config),
            seed=0,
            hooks=Hooks(on_point=on_point),
        )
        seconds = time.perf_counter() - began
        threads = _tracking_seconds() - threads_before
    finally:
        tracked.end("FINISHED")
    return (in_hooks + threads) / seconds


def _tracking_seconds() -> float:
    """Return the processor seconds of tracking's threads: neither this nor a training thread."""
    threads = {
        thread.native_id
        for thread in threading.enumerate()
        if not thread.name.startswith(parallel.THREAD_NAME)
    }
    threads.discard(threading.get_native_id())
    return sum(t.user_time + t.system_time for t in psutil.Process().threads() if t.id in threads)


@contextmanager
def loopback_server(folder: Path) -> Iterator[str]:
    """Start an MLflow server on this machine, yield its address, and stop it after the block.

    Raises RunError if it does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    backend = f"sqlite:///{folder / 'server.db'}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        backend,
        "--host",
        "127.0.0.1",
    ]
    command += [
        "--port",
        str(port),
        "--workers",
        "1",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    address = f"http://127.0.0.1:{port}"
    # Job execution would start seven more processes, which would compete for the cores.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            deadline = time.monotonic() + _SERVER_PATIENCE_S
            while not _answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RunError(
                        f"no MLflow server answers on {address}; "
                        f"see its log: {folder / 'server.log'}"
                    )
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too; its data are temporary


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
