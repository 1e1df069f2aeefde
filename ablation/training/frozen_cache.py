"""What the layers that frozen tuning freezes give: computed once, shared by epochs, runs and trials.

Without dropout in them (`model.frozen_dropout`), the frozen embeddings and layers give the same for
a text at every step of every run. Their outputs for all rows of a file are kept, and training and
prediction start above them: equal to running the whole encoder but for the rounding of products
over other batches. The layers that train see the same dropout either way.

Encoder families that are padded instead of packed (`ablation.encoders.packing`) keep nothing, as their
parts differ too much to be run apart; frozen tuning runs all of their layers.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch

from ablation.config.schema import Precision
from ablation.encoders.packing import embed_packed, is_packable, layers_packed
from ablation.training.batching import HiddenStates, Texts, by_length, collate
from ablation.training.evaluation import EVALUATION_BATCH
from ablation.training.model import IntimacyRegressor
from ablation.training.parallel import on_each_piece, pieces_for
from ablation.training.precision import autocast

#: Bytes of all outputs that one `FrozenLayerCache` holds in memory; those above that go to temporary files.
MOST_IN_MEMORY: Final = 2 * 2**30
#: Depths kept for one file of texts: sweeps over `model.freeze_layers` come back to few of them.
MOST_DEPTHS: Final = 3


@dataclass(frozen=True)
class FrozenLayerCache:
    """The outputs kept for one encoder and one corpus: by file ("train", "test"), precision and depth.

    At most `MOST_DEPTHS` of one file, the one that was needed longest ago giving way; together at
    most `MOST_IN_MEMORY` bytes in memory, and the rest in temporary files that have no name and go
    with their outputs or with the process. Not to be shared by threads.
    """

    made: dict[tuple[str, str, int], HiddenStates] = field(default_factory=dict)


def attach_cached_hidden(
    kept: FrozenLayerCache, file: str, model: IntimacyRegressor, texts: Texts, precision: Precision
) -> Texts:
    """`texts`, all rows of `file`, with the frozen layers' outputs (tokens, hidden) for them, from `kept` or computed now.

    Kept outputs serve every model that froze as many layers of the same encoder; a deeper depth is
    computed from the deepest shallower one. They do not depend on which were made before, to the
    bit. Gives back `texts` alone, to be run through all layers, where no outputs can be kept: a
    model that is not frozen, has dropout in its frozen layers, or is padded; no room for the file.
    May leave the model in evaluation mode.
    """
    depth = model.frozen_layers
    if depth is None or model.frozen_dropout or not is_packable(model.encoder):
        return texts
    key = (file, precision, depth)
    hidden = kept.made.pop(key, None)
    if hidden is None:
        below = [d for f, p, d in kept.made if (f, p) == key[:2] and d < depth]
        source = max(below, default=None)
        _make_room(kept, file, None if source is None else (file, precision, source))
        values = _allocate(
            int(texts.lengths.sum()), int(model.encoder.config.hidden_size), _room(kept)
        )
        if values is None:
            return texts
        hidden = HiddenStates(values, np.cumsum(texts.lengths) - texts.lengths)
        known = None if source is None else kept.made[file, precision, source]
        _compute(hidden, model, replace(texts, hidden=known), precision, source or 0, depth)
    kept.made[key] = hidden  # the last is the one that was needed last
    return replace(texts, hidden=hidden)


def _compute(
    hidden: HiddenStates,
    model: IntimacyRegressor,
    texts: Texts,
    precision: Precision,
    first: int,
    depth: int,
) -> None:
    """Fill `hidden` with the outputs of the layer below `depth`, from those below `first` where `texts` has them."""
    device = next(model.parameters()).device
    model.eval()

    def compute_rows(indices: np.ndarray) -> None:
        batch = collate(texts, indices, device)
        with torch.inference_mode(), autocast(device, precision):
            states = (
                embed_packed(model.encoder, batch.ids, batch.lengths)
                if batch.hidden is None
                else batch.hidden
            )
            states, _ = layers_packed(model.encoder, states, batch.lengths, first, depth)
        rows = states.float().cpu().split(batch.lengths.tolist())
        for start, row in zip(hidden.start[indices], rows, strict=True):
            hidden.values[start : start + len(row)] = row.numpy()

    # The same batches for every depth: a layer's output then does not depend on where the computation began.
    for indices in by_length(texts, EVALUATION_BATCH):
        on_each_piece(compute_rows, indices, pieces_for(model))


def _make_room(kept: FrozenLayerCache, file: str, needed: tuple[str, str, int] | None) -> None:
    """Let go of what was needed longest ago, but for what is `needed` now, until one more depth of `file` may be kept."""
    mine = [key for key in kept.made if key[0] == file]
    for key in [key for key in mine if key != needed][: max(0, len(mine) - MOST_DEPTHS + 1)]:
        del kept.made[key]


def _room(kept: FrozenLayerCache) -> int:
    """Bytes that may still be held in memory."""
    held = (hidden.values for hidden in kept.made.values())
    return MOST_IN_MEMORY - sum(
        values.nbytes for values in held if not isinstance(values, np.memmap)
    )


def _allocate(tokens: int, hidden_size: int, room: int) -> np.ndarray | None:
    """Uninitialised float32 (tokens, hidden_size): in memory if it fits `room`, else in a temporary file if the disk has room."""
    size = 4 * tokens * hidden_size
    if size <= room:
        return np.empty((tokens, hidden_size), dtype=np.float32)
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        # Claimed now: writing to a mapped page that a full disk can't hold would kill the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            os.ftruncate(file.fileno(), size)
        return np.memmap(file, np.float32, "r+", shape=(tokens, hidden_size))
    return None
