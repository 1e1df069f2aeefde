"""Send metric points to the store in batches, from a thread of their own."""

import math
import queue
import threading
import time
from collections.abc import Mapping
from typing import Final

from mlflow.entities import Metric

from ablation.tracking.store import Writer

#: MLflow's servers accept this many points in one request.
POINTS_PER_REQUEST: Final = 1000
SECONDS_BETWEEN_REQUESTS: Final = 2.0


class PointWriter:
    """Send a run's points in the order in which they were added, without blocking the caller.

    Points that are not finite are left out, because stores turn them into other numbers, and are
    counted in `not_finite`.
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
        """Queue one point per metric, all at `step` and the current time."""
        now = time.time_ns() // 1_000_000
        for name, value in values.items():
            if math.isfinite(value):
                self._queue.put(Metric(name, float(value), now, step))
            else:
                self.not_finite += 1

    def close(self) -> None:
        """Return when everything has been written. Raises the error that stopped the writing."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _send_all(self) -> None:
        try:
            is_last = False
            while not is_last:
                points, is_last = self._gather()
                for start in range(0, len(points), POINTS_PER_REQUEST):
                    batch = points[start : start + POINTS_PER_REQUEST]
                    self._writer.log_batch(self._run_id, metrics=batch)
        except BaseException as error:
            self._error = error

    def _gather(self) -> tuple[list[Metric], bool]:
        """Return the points of the next seconds, and whether they are the last."""
        points: list[Metric] = []
        deadline = time.monotonic() + SECONDS_BETWEEN_REQUESTS
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                point = self._queue.get(timeout=remaining)
            except queue.Empty:
                break
            if point is None:
                return points, True
            points.append(point)
        return points, False
