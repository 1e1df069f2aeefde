"""Load an encoder and its tokenizer by name.

Weights are read from safetensors only: nothing is unpickled, and no code that comes with an encoder
is executed.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ablation.config.model_parts import POOLINGS
from ablation.config.own_code import parse_own
from ablation.core.counting import counted
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from ablation.encoders.declared import (
    NOTHING,
    Declared,
    declared_pooling,
    read_declared,
    text_prefix,
)
from ablation.encoders.sources import (
    BUNDLED,
    TINY,
    describe_failure,
    locate_encoder,
    silence_libraries,
)

#: Encoder families (`model_type`) whose own classification head reads the first token, which is the
#: sentence vector for "auto" pooling. Other families are mean-pooled.
CLS_FAMILIES: Final = ("xlm-roberta", "roberta", "xlm-roberta-xl", "camembert")
#: Tokens of the smallest real vocabulary: without its files, transformers makes an empty tokenizer.
FEWEST_TOKENS: Final = 32


@dataclass(frozen=True)
class Encoder:
    """A pre-trained encoder in evaluation mode, float32, its tokenizer, and what it declares."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    declared: Declared = NOTHING

    @property
    def hidden_size(self) -> int:
        """Return the width of the hidden states."""
        return int(self.model.config.hidden_size)


def load_encoder(name: str, layers: int | None = None) -> Encoder:
    """Load the encoder called `name`, cut to its lowest `layers` layers if given.

    Raises UsageError if it can't be found, is not an encoder, has only pickled weights, or has
    fewer layers.
    """
    silence_libraries()
    source = locate_encoder(name)
    options = {"trust_remote_code": False, "local_files_only": isinstance(source, Path)}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "num_hidden_layers"):
            raise UsageError(
                f"encoder {name!r} is a {config.model_type} model, not a transformer encoder"
            )
        known = added_tokens(source) if name in (BUNDLED, TINY) and isinstance(source, Path) else {}
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options, **known)
        if "/" in str(getattr(config, "_attn_implementation", "")):
            raise UsageError(
                f"encoder {name!r}: its config.json asks for attention code from the Hub,"
                " which is not executed"
            )
        model, report = AutoModel.from_pretrained(
            source,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    except UsageError:
        raise
    except Exception as error:  # the libraries raise a dozen types
        raise UsageError(describe_failure(name, source, error)) from error
    if any(key.startswith("decoder.") for key in report["missing_keys"]):
        raise UsageError(
            f"encoder {name!r}: is the encoder half of a {config.model_type} model, whose family is"
            " not supported; use another encoder, such as bundled"
        )
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith("pooler.")):
        if prefix := _prefix_of_weights(missing[0], report["unexpected_keys"]):
            raise UsageError(
                f"encoder {name!r}: its weights are named {prefix}{missing[0]} and so on, as a"
                f" model that wraps it saves them: save it again without {prefix!r} (of PyTorch's"
                " data-parallel models, save `.module`)"
            )
        raise UsageError(
            f"encoder {name!r}: its files lack {counted(len(missing), 'weight')},"
            f" such as {missing[0]}; download it again"
        )
    if len(tokenizer) < FEWEST_TOKENS:
        raise UsageError(
            f"encoder {name!r}: its tokenizer has {counted(len(tokenizer), 'token')};"
            " are its files missing?"
        )
    if tokenizer.pad_token_id is None:
        raise UsageError(f"encoder {name!r}: its tokenizer has no padding token")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # this suite pools by itself; unused weights need no training
    if layers is not None:
        stacks = layer_stacks(model)
        if layers > (available := len(stacks[0])):
            raise UsageError(f"model.layers = {layers}: encoder {name!r} has {available} layers")
        for stack in stacks:
            del stack[layers:]
        model.config.num_hidden_layers = layers
        if hasattr(model, "n_layers"):  # XLM and FlauBERT count in the model as well
            model.n_layers = layers
    return Encoder(name, model.eval(), tokenizer, read_declared(name, source))


def added_tokens(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the argument that spares transformers to read a tokenizer.json of ours twice.

    Not told which tokens were added to the vocabulary, it parses the whole file for their list, and
    then the tokenizer. The list is at the beginning of the file.
    """
    name = '"added_tokens":'
    content = (folder / "tokenizer.json").read_text("utf-8")
    tokens, _ = json.JSONDecoder().raw_decode(content, content.index("[", content.index(name)))
    return {"added_tokens_decoder": {token.pop("id"): token for token in tokens}}


def _prefix_of_weights(name: str, unexpected: Iterable[str]) -> str:
    """Return the prefix under which a weight is in the files, such as "module."; "" if in none."""
    found = [key for key in unexpected if key.endswith(f".{name}")]
    return min(found, key=len).removesuffix(name) if found else ""


def pooling_of(encoder: Encoder, pooling: str) -> str:
    """Return the pooling of the sentence vector.

    "auto" is the pooling that a sentence-transformers folder declares, and depends on the encoder's
    family for others.

    Raises UsageError for an unknown pooling, or if several are declared.
    """
    if pooling == "auto":
        by_family = "cls" if encoder.model.config.model_type in CLS_FAMILIES else "mean"
        return declared_pooling(encoder.name, encoder.declared) or by_family
    if pooling in POOLINGS or parse_own(pooling) is not None:
        return pooling
    raise UsageError(f"unknown pooling {pooling!r}: {did_you_mean(pooling, POOLINGS)}")


def prefix_of(encoder: Encoder, prefix: str, prompt: str) -> str:
    """Return what to put before each text (`text_prefix`). Raises UsageError."""
    return text_prefix(encoder.name, encoder.declared, prefix, prompt)


def padding_id(model: PreTrainedModel) -> int:
    """Return the padding token's id; 0 for families without one, whose padding is masked anyway."""
    return int(getattr(model.config, "pad_token_id", None) or 0)


def transformer_layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    """Return the transformer layers, lowest first. Raises UsageError if the model has none.

    If a family keeps the parts of its layers in several lists, return the one that is declared
    first; see `layer_stacks`.
    """
    return layer_stacks(model)[0]


def layer_stacks(model: PreTrainedModel) -> list[torch.nn.ModuleList]:
    """Return the outermost lists with one module a layer, in the order of their declaration.

    Most families have one. XLM and FlauBERT have one each for attention, feed-forward and norms.
    Raises UsageError if there is none.
    """
    count = model.config.num_hidden_layers
    stacks: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, torch.nn.ModuleList) and len(module) == count and not nested:
            stacks[name] = module
    if not stacks:
        raise UsageError(
            f"encoder family {model.config.model_type}: no stack of {count} transformer layers"
            " found; use another encoder"
        )
    return list(stacks.values())
