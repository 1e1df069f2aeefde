"""Metric points on their way to the store: gathered, and sent in batches by a thread of their own."""

import math
import queue
import threading
import time
from collections.abc import Mapping
from typing import Final

from mlflow.entities import Metric

from ablation.tracking.store import Writer

#: What MLflow's servers take in one request.
MOST_IN_A_REQUEST: Final = 1000
SECONDS_BETWEEN_REQUESTS: Final = 2.0


class PointWriter:
    """Sends a run's points in the order in which they were added, without holding up the caller.

    Points that are not finite numbers are left out (stores turn them into other numbers) and
    counted in `not_finite`. `close` returns when everything has arrived and raises what went wrong.
    """

    def __init__(self, writer: Writer, run_id: str) -> None:
        self.not_finite = 0
        self._writer = writer
        self._run_id = run_id
        self._queue: queue.SimpleQueue[Metric | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(
            target=self._send_all, name=f"points-{run_id[:8]}", daemon=True
        )
        self._thread.start()

    def add(self, values: Mapping[str, float], step: int) -> None:
        now = time.time_ns() // 1_000_000
        for name, value in values.items():
            if math.isfinite(value):
                self._queue.put(Metric(name, float(value), now, step))
            else:
                self.not_finite += 1

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _send_all(self) -> None:
        try:
            finished = False
            while not finished:
                points, finished = self._gather()
                for start in range(0, len(points), MOST_IN_A_REQUEST):
                    self._writer.log_batch(
                        self._run_id, metrics=points[start : start + MOST_IN_A_REQUEST]
                    )
        except BaseException as error:
            self._error = error

    def _gather(self) -> tuple[list[Metric], bool]:
        """The points of the next few seconds, and whether they are the last."""
        points: list[Metric] = []
        deadline = time.monotonic() + SECONDS_BETWEEN_REQUESTS
        while (left := deadline - time.monotonic()) > 0:
            try:
                point = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if point is None:
                return points, True
            points.append(point)
        return points, False
