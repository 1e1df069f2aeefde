"""A cache of the frozen layers' outputs, shared by epochs, runs and trials.

Without dropout in them (`model.frozen_dropout`), the frozen embeddings and layers give the same
output for a text at every step of every run. It is computed once for all rows of a file, and
training and prediction start above it. The result equals that of the whole encoder but for the
rounding of products over other batches; the layers that train draw the same dropout either way.

Encoder families that are padded instead of packed (`ablation.encoders.packing`) are not cached,
because their parts differ too much to run separately. Frozen tuning runs all of their layers.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from ablation.config.schema import Precision
from ablation.encoders.packing import embed_packed, is_packable, layers_packed, make_packing
from ablation.training.batching import HiddenStates, Texts, collate, prediction_batches
from ablation.training.evaluation import EVALUATION_BATCH
from ablation.training.model import IntimacyRegressor
from ablation.training.parallel import count_pieces, run_in_pieces
from ablation.training.precision import autocast

#: Bytes that one `FrozenLayerCache` holds in memory; outputs beyond that go to temporary files.
MAX_BYTES_IN_MEMORY: Final = 2 * 2**30
#: Depths that are kept for one file; sweeps over `model.freeze_layers` return to few of them.
MAX_DEPTHS_PER_FILE: Final = 3


class CacheKey(NamedTuple):
    """The outputs of the lowest `depth` layers for the rows of `file` ("train", "test")."""

    file: str
    precision: Precision
    depth: int


@dataclass(frozen=True)
class FrozenLayerCache:
    """Outputs of frozen layers for one encoder and one corpus, least recently used first.

    Holds at most `MAX_DEPTHS_PER_FILE` depths of a file, and at most `MAX_BYTES_IN_MEMORY` bytes in
    memory. The rest is in temporary files without a name, which vanish with their outputs or the
    process. Not safe for threads.
    """

    outputs: dict[CacheKey, HiddenStates] = field(default_factory=dict)


def attach_cached_hidden(
    cache: FrozenLayerCache, file: str, model: IntimacyRegressor, texts: Texts, precision: Precision
) -> Texts:
    """Return `texts` with the frozen layers' outputs, from the cache or computed now.

    Outputs serve every model that freezes as many layers of the same encoder; those of a deeper
    layer are computed from the deepest shallower ones. They do not depend on the order in which
    depths were computed, bit for bit. May leave the model in evaluation mode.

    Args:
        cache: The cache, which receives the outputs.
        file: The name of the file, "train" or "test".
        model: A model, frozen or not.
        texts: All rows of the file.
        precision: The precision of the run.

    Returns:
        `texts` with `hidden`. Without it if nothing can be cached: the model is not frozen, has
        dropout in its frozen layers or is padded, or neither memory nor disk has room.
    """
    depth = model.frozen_layers
    if depth is None or model.frozen_dropout or not is_packable(model.encoder):
        return texts
    key = CacheKey(file, precision, depth)
    hidden = cache.outputs.pop(key, None)
    if hidden is None:
        shallower = [k for k in cache.outputs if k[:2] == key[:2] and k.depth < depth]
        source = max(shallower, default=None, key=lambda k: k.depth)
        _evict(cache, file, source)
        values = _allocate(
            int(texts.lengths.sum()), int(model.encoder.config.hidden_size), _free_bytes(cache)
        )
        if values is None:
            return texts
        hidden = HiddenStates(values, np.cumsum(texts.lengths) - texts.lengths)
        start = replace(texts, hidden=None if source is None else cache.outputs[source])
        layers = range(0 if source is None else source.depth, depth)
        _compute(hidden, model, start, precision, layers)
    cache.outputs[key] = hidden  # at the end: most recently used
    return replace(texts, hidden=hidden)


def _compute(
    hidden: HiddenStates,
    model: IntimacyRegressor,
    texts: Texts,
    precision: Precision,
    layers: range,
) -> None:
    """Fill `hidden` with the output of the last of `layers`.

    `texts.hidden` is the input of the first of `layers`, or None to start from the embeddings.
    """
    device = next(model.parameters()).device
    model.eval()

    def compute_rows(indices: np.ndarray) -> None:
        batch = collate(texts, indices, device)
        with torch.inference_mode(), autocast(device, precision):
            packing, states = make_packing(batch.lengths, model.encoder), batch.hidden
            if states is None:
                states = embed_packed(model.encoder, batch.ids, packing)
            states = layers_packed(model.encoder, states, packing, layers.start, layers.stop)
        rows = states.float().cpu().split(batch.lengths.tolist())
        for start, row in zip(hidden.start[indices], rows, strict=True):
            hidden.values[start : start + len(row)] = row.numpy()

    # Batches are the same for every depth, so that outputs do not depend on the starting layer.
    for indices in prediction_batches(texts, EVALUATION_BATCH):
        run_in_pieces(compute_rows, indices, count_pieces(model))


def _evict(cache: FrozenLayerCache, file: str, keep: CacheKey | None) -> None:
    """Remove the least recently used depths of `file` except `keep`, to make room for one."""
    keys = [key for key in cache.outputs if key.file == file]
    surplus = max(0, len(keys) - MAX_DEPTHS_PER_FILE + 1)
    for key in [key for key in keys if key != keep][:surplus]:
        del cache.outputs[key]


def _free_bytes(cache: FrozenLayerCache) -> int:
    """Return the number of bytes that the cache may still hold in memory."""
    arrays = (hidden.values for hidden in cache.outputs.values())
    return MAX_BYTES_IN_MEMORY - sum(
        values.nbytes for values in arrays if not isinstance(values, np.memmap)
    )


def _allocate(
    tokens: int, hidden_size: int, free_bytes: int
) -> Float32[np.ndarray, "tokens hidden_size"] | None:
    """Allocate an array in memory if it fits, else in a temporary file, or None if that is full."""
    size = 4 * tokens * hidden_size
    if size <= free_bytes:
        return np.empty((tokens, hidden_size), dtype=np.float32)
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        # Reserved now: writing to a mapped page that does not fit the disk would kill the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            os.ftruncate(file.fileno(), size)
        return np.memmap(file, np.float32, "r+", shape=(tokens, hidden_size))
    return None
