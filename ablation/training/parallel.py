"""Data parallelism in one process: two threads of a CPU, each with half a batch and half the cores.

A step has over a thousand operations, most of them short. If all cores share each operation, every
one wakes threads and waits for the slowest. If each half of the batch has its own cores, the
threads wait for each other twice a step. The result is that of the whole batch: the loss is
computed from the outputs of both halves, and each half propagates its gradient
(`docs/benchmarks/notes.md` has the timings).
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import torch
from jaxtyping import Int
from numpy import ndarray

from ablation.encoders.packing import is_packable
from ablation.training.model import IntimacyRegressor

#: Two and no more: a sum of two gradients does not depend on their order, bit for bit; one of three
#: does.
PIECES: Final = 2
#: The prefix of the threads' names.
THREAD_NAME: Final = "piece"

T = TypeVar("T")


def count_pieces(model: IntimacyRegressor) -> int:
    """Return the number of pieces to split a batch into: 2 on a CPU, whatever its threads.

    Each piece draws dropout of its own, so results would depend on the number of threads if that
    decided the number of pieces, and runs of unlike machines would be taken for the same.

    Return 1 for encoders that are padded, and for a pooling or head of one's own. They draw dropout
    from the process's generator (`ablation.encoders.dropout`), so results would depend on the order
    of the threads.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    is_split = is_packable(model.encoder) and not model.has_own_parts
    return PIECES if on_cpu and is_split else 1


def run_in_pieces(
    function: Callable[[ndarray], None], indices: Int[ndarray, " rows"], pieces: int
) -> None:
    """Call `function` on each of the `pieces` of the row indices, in parallel."""
    if pieces == 1:
        function(indices)
    else:
        map_threads(
            function, [indices[first::pieces] for first in range(min(pieces, len(indices)))]
        )


def map_threads(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """Map `function` over `arguments`, at most `PIECES` of each, with every call in its own thread.

    Torch's state of the calling thread (gradient mode, autocast) does not apply in the threads. An
    error of a call is raised after all calls have ended.
    """
    calls = [
        _thread_pool(max(1, torch.get_num_threads() // PIECES)).submit(function, *values)
        for values in zip(*arguments, strict=True)
    ]
    for call in calls:
        call.exception()
    return [call.result() for call in calls]


@functools.cache
def _thread_pool(cores: int) -> ThreadPoolExecutor:
    """Start the threads, each with `cores`. They stay alive: a thread's first operation is slow."""
    total, all_started = torch.get_num_threads(), threading.Barrier(PIECES)
    pool = ThreadPoolExecutor(
        PIECES, thread_name_prefix=THREAD_NAME, initializer=_limit_cores, initargs=(cores,)
    )
    for waiting in [pool.submit(all_started.wait) for _ in range(PIECES)]:
        waiting.result()
    # Threads that start later take the number that was set last.
    torch.set_num_threads(total)
    return pool


# A forked process has none of its parent's threads and starts its own when needed.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_thread_pool.cache_clear)


def _limit_cores(cores: int) -> None:
    """Limit torch's operations in this thread to `cores` cores."""
    # Take the process's number over now, or the first operation would do so and undo the limit.
    torch.get_num_threads()
    torch.set_num_threads(cores)
