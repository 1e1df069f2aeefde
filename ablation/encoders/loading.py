"""From an encoder's name to its weights and tokenizer.

Weights are read from safetensors only: nothing is unpickled, and no code that an encoder brings
along is executed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ablation.core.errors import UsageError
from ablation.encoders.sources import explain, quieten, source_of

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
    quieten()
    source = source_of(name)
    options = {"trust_remote_code": False, "local_files_only": isinstance(source, Path)}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "num_hidden_layers"):
            raise UsageError(
                f"encoder {name!r} is a {config.model_type} model, not a transformer encoder"
            )
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
        if "/" in str(getattr(config, "_attn_implementation", "")):
            raise UsageError(
                f"encoder {name!r}: its config.json asks for attention code from the Hub, which is not run"
            )
        model, loaded = AutoModel.from_pretrained(
            source,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except UsageError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        raise UsageError(explain(name, source, error)) from error
    if lacking := sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler.")):
        raise UsageError(
            f"encoder {name!r}: {len(lacking)} weights are not in its files, such as {lacking[0]}; get it again"
        )
    if (
        len(tokenizer) < FEWEST_TOKENS
    ):  # without its files transformers makes one that knows no word
        raise UsageError(
            f"encoder {name!r}: its tokenizer has {len(tokenizer)} tokens; are its files missing?"
        )
    if tokenizer.pad_token_id is None:
        raise UsageError(f"encoder {name!r}: its tokenizer has no padding token")
    if getattr(model, "pooler", None) is not None:
        model.pooler = (
            None  # the sentence vector is pooled by this suite; unused weights need no training
        )
    if layers is not None:
        stack = transformer_layers(model)
        if layers > len(stack):
            raise UsageError(f"model.layers = {layers}: encoder {name!r} has {len(stack)} layers")
        del stack[layers:]
        model.config.num_hidden_layers = layers
    return Encoder(name, model.eval(), tokenizer)


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
    raise UsageError(
        f"encoder {model.config.model_type}: no stack of {count} transformer layers found in it"
    )
