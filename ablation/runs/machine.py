"""Describe a machine that trains runs: its cores, its memory and its GPUs."""

from dataclasses import dataclass
from typing import Final

import psutil

from ablation.executors.protocol import Resources

#: The part of a machine's or a card's memory that runs may fill.
FILLED: Final = 0.9
#: Bytes of a card that each process takes before it has a tensor.
CONTEXT_BYTES: Final = 600 * 2**20


@dataclass(frozen=True)
class Machine:
    """A machine like those that runs are trained on; `card_bytes` is the memory of each GPU."""

    cores: int
    memory_bytes: int
    cards: int = 0
    card_bytes: int = 0

    def at_once(self, resources: Resources, memory_bytes: int) -> int:
        """Return how many runs with these resources and of this memory it trains side by side."""
        by_cores = self.cores // resources.cpus
        if resources.gpus:
            fits = int(FILLED * self.card_bytes) // (memory_bytes + CONTEXT_BYTES)
            return max(1, min(by_cores, self.cards * min(fits, int(1 / resources.gpus))))
        return max(1, min(by_cores, int(FILLED * self.memory_bytes) // max(1, memory_bytes)))


def this_machine() -> Machine:
    """Return this machine, with the cores that torch uses."""
    import torch

    cards = torch.cuda.device_count()
    card = torch.cuda.get_device_properties(0).total_memory if cards else 0
    return Machine(torch.get_num_threads(), psutil.virtual_memory().total, cards, card)
