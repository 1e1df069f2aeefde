"""Write a model as a sentence-transformers folder, and read one.

The folder is a model of three modules, Transformer, Pooling and Dense with one output and no
activation, so that sentence-transformers gives a text's score without this package. The prefix is
the default prompt. `intimacy.json` adds the model's origin and the range of its labels.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from ablation.config.model_parts import NOT_EXPORTABLE
from ablation.core.errors import UsageError, first_line
from ablation.encoders.loading import load_encoder, prefix_of
from ablation.models.kept_weights import AboutModel, KeptRun, rebuild
from ablation.training.model import IntimacyRegressor
from ablation.training.train_run import longest_input

#: The name of the prompt that holds the prefix, if the model has one.
PROMPT: Final = "intimacy"
ABOUT_FILE: Final = "intimacy.json"
#: An ensemble's folder: a JSON object, member folder to its weight in the average.
ENSEMBLE_FILE: Final = "ensemble.json"
_MODULES_FILE: Final = "modules.json"
_LIMITS_FILE: Final = "sentence_bert_config.json"
_PROMPTS_FILE: Final = "config_sentence_transformers.json"
_POOLING: Final = "1_Pooling"
_HEAD: Final = "2_Dense"
#: The pooling of a model, and the switch that says it to sentence-transformers.
POOLING_FLAGS: Final = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "last": "pooling_mode_lasttoken",
    "weighted_mean": "pooling_mode_weightedmean_tokens",
    "mean_sqrt": "pooling_mode_mean_sqrt_len_tokens",
}
_MODULES: Final = (("", "Transformer"), (_POOLING, "Pooling"), (_HEAD, "Dense"))


@dataclass(frozen=True)
class LoadedModel:
    """A fine-tuned model in evaluation mode, and how texts are put into it.

    Attributes:
        model: The model, with its whole vocabulary.
        tokenizer: Its tokenizer.
        max_tokens: The length at which texts are cut.
        prefix: The text that each text must begin with.
        about: Its origin; None for a folder that says nothing of it.
    """

    model: IntimacyRegressor
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    prefix: str
    about: AboutModel | None


def load_kept(kept: KeptRun) -> LoadedModel:
    """Load the model of a kept run. Raises UsageError like `rebuild`."""
    model, encoder = rebuild(kept)
    config = kept.about.config
    limit = min(config.data.max_tokens, longest_input(encoder))
    prefix = prefix_of(encoder, config.model.prefix, config.model.prompt)
    return LoadedModel(model, encoder.tokenizer, limit, prefix, kept.about)


def write_model(folder: Path, loaded: LoadedModel) -> None:
    """Write a model to `folder`, which is created if necessary.

    Raises:
        UsageError: Pooling or head are one's own, which the format can't hold.
    """
    model = loaded.model
    if not isinstance(model.head, nn.Linear) or model.own_pooling is not None:
        raise UsageError(NOT_EXPORTABLE)
    hidden = int(model.head.in_features)
    folder.mkdir(parents=True, exist_ok=True)
    model.encoder.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (path, name) in enumerate(_MODULES)
    ]
    prompts = {PROMPT: loaded.prefix} if loaded.prefix else {}
    _write_json(folder / _MODULES_FILE, modules)
    _write_json(folder / _LIMITS_FILE, {"max_seq_length": loaded.max_tokens})
    _write_json(
        folder / _PROMPTS_FILE,
        {"prompts": prompts, "default_prompt_name": PROMPT if prompts else None},
    )
    _write_json(
        folder / _POOLING / "config.json",
        {
            "word_embedding_dimension": hidden,
            **{flag: pooling == model.pooling for pooling, flag in POOLING_FLAGS.items()},
        },
    )
    _write_json(
        folder / _HEAD / "config.json",
        {
            "in_features": hidden,
            "out_features": 1,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    head = {f"linear.{name}": value.contiguous() for name, value in model.head.state_dict().items()}
    save_file(head, folder / _HEAD / "model.safetensors")
    if loaded.about is not None:
        _write_json(folder / ABOUT_FILE, loaded.about.model_dump(mode="json"))


def write_ensemble(folder: Path, weights: Mapping[str, float]) -> None:
    """Write the file that makes `folder` an ensemble of the models in folders within it.

    Args:
        folder: The ensemble's folder, which has the members' folders.
        weights: The weight of each member's folder in the average.
    """
    _write_json(folder / ENSEMBLE_FILE, {"members": dict(weights)})


def read_about(folder: Path) -> AboutModel | None:
    """Return the origin of the model in a folder; None if it says nothing of it."""
    try:
        return AboutModel.model_validate_json((folder / ABOUT_FILE).read_text("utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def link_model(source: Path, target: Path, about: AboutModel) -> bool:
    """Copy an exported model without using space for it, if the file system has hard links.

    Returns:
        False, with nothing copied, if `source` is no model or one of another run than `about`.
    """
    found = read_about(source)
    if found is None or found.identity != about.identity:
        return False
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=_link_or_copy)
    return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def read_model(folder: Path) -> LoadedModel:
    """Load the model that `write_model` wrote to `folder`.

    Raises:
        UsageError: The folder holds no such model, or its files do not fit together.
    """
    try:
        modules = [
            str(module["type"]).rpartition(".")[2] for module in _json(folder, _MODULES_FILE)
        ]
        if modules != [name for _, name in _MODULES]:
            raise ValueError(f"{_MODULES_FILE} lists other modules")
        max_tokens = int(_json(folder, _LIMITS_FILE)["max_seq_length"])
        prompting = _json(folder, _PROMPTS_FILE)
        name = prompting.get("default_prompt_name")
        prefix = "" if name is None else str(prompting["prompts"][name])
        flags = _json(folder / _POOLING, "config.json")
        (pooling,) = (name for name, flag in POOLING_FLAGS.items() if flags.get(flag))
        head = load_file(folder / _HEAD / "model.safetensors")
        about = None
        if (folder / ABOUT_FILE).is_file():
            about = AboutModel.model_validate_json((folder / ABOUT_FILE).read_text("utf-8"))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SafetensorError,
        ValidationError,
    ) as error:
        raise UsageError(
            f"{folder}: not a model that `ablation run --export` wrote: {first_line(error)}"
        ) from error
    encoder = load_encoder(str(folder))
    model = IntimacyRegressor(encoder.model, pooling, 0.0, seed=0)
    try:
        model.head.load_state_dict({n.removeprefix("linear."): v for n, v in head.items()})
    except RuntimeError as error:
        raise UsageError(f"{folder}: {_HEAD} does not fit the encoder beside it") from error
    return LoadedModel(model.eval(), encoder.tokenizer, max_tokens, prefix, about)


def _json(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def _write_json(file: Path, value: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
