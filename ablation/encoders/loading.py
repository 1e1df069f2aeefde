"""From an encoder's name to its weights and tokenizer: bundled, tiny, a local folder or a Hub id.

Weights are read from safetensors only: nothing is unpickled, and no code that an encoder brings
along is executed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ablation.encoders.bundled import bundled_encoder
from ablation.encoders.tiny import tiny_encoder
from ablation.errors import UsageError

#: Encoder families (`model_type`) whose first token was trained as a sentence vector; the others
#: are mean-pooled. XLM-R's <s> is what its own classification head reads.
CLS_FAMILIES: Final = ("xlm-roberta", "roberta", "xlm-roberta-xl", "camembert")
FEWEST_TOKENS: Final = 32


@dataclass(frozen=True)
class Encoder:
    """A pre-trained encoder in evaluation mode, float32, and its tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)


def load_encoder(name: str, layers: int | None = None) -> Encoder:
    """The encoder called `name`, cut to its lowest `layers` layers where that is given.

    Raises UsageError if it can't be found, is no encoder, has only pickled weights, or has fewer
    layers than asked for.
    """
    _quieten()
    source = _source(name)
    options = {"trust_remote_code": False, "local_files_only": isinstance(source, Path)}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "num_hidden_layers"):
            raise UsageError(f"encoder {name!r} is a {config.model_type} model, not a transformer encoder")
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
        if "/" in str(getattr(config, "_attn_implementation", "")):
            raise UsageError(f"encoder {name!r}: its config.json asks for attention code from the Hub, which is not run")
        model, loaded = AutoModel.from_pretrained(
            source, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
        )
    except UsageError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        raise UsageError(_explain(name, source, error)) from error
    if lacking := sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler.")):
        raise UsageError(f"encoder {name!r}: {len(lacking)} weights are not in its files, such as {lacking[0]}; get it again")
    if len(tokenizer.get_vocab()) < FEWEST_TOKENS:  # without its files transformers makes one that knows no word
        raise UsageError(f"encoder {name!r}: its tokenizer has {len(tokenizer.get_vocab())} tokens; are its files missing?")
    if tokenizer.pad_token_id is None:
        raise UsageError(f"encoder {name!r}: its tokenizer has no padding token")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # the sentence vector is pooled by this suite; unused weights need no training
    if layers is not None:
        stack = transformer_layers(model)
        if layers > len(stack):
            raise UsageError(f"model.layers = {layers}: encoder {name!r} has {len(stack)} layers")
        del stack[layers:]
        model.config.num_hidden_layers = layers
    return Encoder(name, model.eval(), tokenizer)


def encoder_digest(name: str) -> str:
    """What identifies the encoder's weights and tokenizer, without loading them.

    The SHA-256 of a local folder's files, or the commit that a Hub id stands at. Raises UsageError
    like `load_encoder`.
    """
    _quieten()
    source = _source(name)
    if isinstance(source, Path):
        try:
            return _files_digest(source)
        except OSError as error:
            raise UsageError(f"encoder {name!r}: {error.filename}: can't be read: {error.strerror}") from error
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the libraries below raise a dozen kinds
        raise UsageError(_explain(name, source, error)) from error
    return str(getattr(config, "_commit_hash", None) or "unknown")


def pooling_of(encoder: Encoder, pooling: str) -> str:
    """ "cls" or "mean"; `pooling` = "auto" decides by the encoder's family."""
    if pooling != "auto":
        return pooling
    return "cls" if encoder.model.config.model_type in CLS_FAMILIES else "mean"


def transformer_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The stack of transformer layers, lowest first. Raises UsageError if the model has none."""
    count = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise UsageError(f"encoder {model.config.model_type}: no stack of {count} transformer layers found in it")


def _quieten() -> None:
    """No bars, retries and notes on dropped weights: they would tear the run table."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def _source(name: str) -> Path | str:
    if name == "bundled":
        return bundled_encoder()
    if name == "tiny":
        return tiny_encoder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(f"encoder {name!r}: the folder has no config.json; it needs the Hub's layout")
        if not list(folder.glob("*.safetensors")):
            raise UsageError(f"encoder {name!r}: no .safetensors file in the folder; pickled weights are not read")
        _require_safe_index(name, folder / "model.safetensors.index.json")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"encoder {name!r}: there is no such folder")
    return name


def _require_safe_index(name: str, index: Path) -> None:
    """An index may name any file as a part of the weights: only safetensors beside it are let through."""
    if not index.is_file():
        return
    try:
        parts = {str(part) for part in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"encoder {name!r}: {index.name} is no index of weights: {type(error).__name__}") from error
    if wrong := sorted(part for part in parts if Path(part).name != part or not part.endswith(".safetensors")):
        raise UsageError(f"encoder {name!r}: {index.name} names {wrong[0]!r}: only .safetensors files beside it are read")


def _explain(name: str, source: Path | str, error: Exception) -> str:
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if isinstance(source, Path):
        return f"encoder {name!r}: can't be loaded from {source}: {first_line}"
    return (
        f"encoder {name!r}: can't be had from the Hugging Face Hub ({first_line}); check the id and the network, "
        "give a local folder in the Hub's layout, or use --encoder bundled"
    )


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
