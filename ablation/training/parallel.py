"""A batch dealt to two threads of a CPU, each with half of its cores: data parallelism inside one process.

A step is over a thousand operations, most of them short. Taken by all cores together, each operation wakes
threads and waits for the slowest; taken by each half of the batch for itself, threads wait twice a step.
The mathematics is that of the whole batch: the loss is computed on the outputs of both halves, and each
half carries its gradient further down (`docs/benchmarks/notes.md` has what it saves).
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np
import torch

from ablation.encoders.packing import is_packable
from ablation.training.model import IntimacyRegressor

#: Two, and no more: the sum of two gradients is the same to the bit whichever comes first, that of three is not.
PIECES: Final = 2
#: What these threads' names begin with.
NAME: Final = "piece"

T = TypeVar("T")


def pieces_for(model: IntimacyRegressor) -> int:
    """Into how many pieces to deal a batch: 2 on a CPU with an even number of threads, else 1.

    Encoders that are padded draw dropout from the process's own generator (`ablation.encoders.dropout`), so that the
    order of two threads would show: 1.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    return (
        PIECES
        if on_cpu and torch.get_num_threads() % PIECES == 0 and is_packable(model.encoder)
        else 1
    )


def on_each_piece(function: Callable[[np.ndarray], None], indices: np.ndarray, pieces: int) -> None:
    """`function` for each of the `pieces` that the rows `indices` are dealt into, side by side."""
    if pieces == 1:
        function(indices)
    else:
        map_threads(
            function, [indices[first::pieces] for first in range(min(pieces, len(indices)))]
        )


def map_threads(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """`map`, with each call in a thread of its own; at most `PIECES` of them. Raises what a call raised, once all have ended.

    What torch keeps for each thread (gradients on or off, autocast) is not the caller's there.
    """
    calls = [
        _threads(torch.get_num_threads() // PIECES).submit(function, *each)
        for each in zip(*arguments, strict=True)
    ]
    for call in calls:
        call.exception()
    return [call.result() for call in calls]


@functools.cache
def _threads(cores: int) -> ThreadPoolExecutor:
    """The threads, with `cores` each. They live as long as the process: a thread's first operation is a slow one."""
    total, all_here = torch.get_num_threads(), threading.Barrier(PIECES)
    pool = ThreadPoolExecutor(
        PIECES, thread_name_prefix=NAME, initializer=_keep_to, initargs=(cores,)
    )
    for waiting in [pool.submit(all_here.wait) for _ in range(PIECES)]:
        waiting.result()
    torch.set_num_threads(
        total
    )  # what threads that start later take for their own number is the number set last
    return pool


# A forked process has none of its parent's threads, and makes its own when it first needs some.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)


def _keep_to(cores: int) -> None:
    """Let this thread's operations take `cores` threads."""
    torch.get_num_threads()  # takes the process's number over, which else the first operation would do, after the next line
    torch.set_num_threads(cores)
