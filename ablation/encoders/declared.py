"""Read what a sentence-transformers folder declares: its pooling and its prompts.

Such a folder, or model on the Hub, lists its parts in `modules.json`. Parts after the pooling
(dense layers, normalisation) are not used: the head that is trained takes their place.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ablation.core.errors import UsageError, first_line
from ablation.core.suggest import did_you_mean

#: The prompt that is the folder's default one, and none at all.
AUTO: Final = "auto"
NO_PROMPT: Final = "none"
#: Our name of each pooling by sentence-transformers' own, and by the switch of older versions.
_POOLINGS: Final[Mapping[str, tuple[str, str]]] = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "max": ("max", "pooling_mode_max_tokens"),
    "mean_sqrt": ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    "weighted_mean": ("weightedmean", "pooling_mode_weightedmean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}
_MODULES_FILE: Final = "modules.json"
_PROMPTS_FILE: Final = "config_sentence_transformers.json"


@dataclass(frozen=True)
class Declared:
    """Hold the pooling and the prompts that an encoder declares.

    Attributes:
        poolings: Poolings that make up the sentence vector; empty if nothing is declared.
        prompts: Texts to put before each text, by name.
        default_prompt: The name of the one that is used if none is chosen; empty if there is none.
        pools_prompt: False if the tokens of a prompt are left out of the pooling.
    """

    poolings: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    pools_prompt: bool = True


NOTHING: Final = Declared()


def read_declared(name: str, source: Path | str) -> Declared:
    """Return what an encoder declares; nothing for one that is not of sentence-transformers.

    Args:
        name: The encoder's name, for messages.
        source: Its folder, or its id on the Hub.

    Raises:
        UsageError: A file of the declaration can't be read, or names an unknown pooling.
    """
    modules = _read(name, source, _MODULES_FILE)
    if modules is None:
        return NOTHING
    prompting = _read(name, source, _PROMPTS_FILE) or {}
    try:
        folders = [
            str(module["path"])
            for module in modules
            if str(module["type"]).rpartition(".")[2] == "Pooling"
        ]
        pooling = _read(name, source, f"{folders[0]}/config.json") if folders else None
        prompts = {str(k): str(v) for k, v in (prompting.get("prompts") or {}).items()}
        return Declared(
            () if pooling is None else _poolings(pooling),
            prompts,
            str(prompting.get("default_prompt_name") or ""),
            pooling is None or bool(pooling.get("include_prompt", True)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"encoder {name!r}: its sentence-transformers files can't be read:"
            f" {type(error).__name__}: {first_line(error)}"
        ) from error


def declared_pooling(name: str, declared: Declared) -> str | None:
    """Return the one pooling that is declared, or None. Raises UsageError for several at once."""
    if len(declared.poolings) > 1:
        raise UsageError(
            f"encoder {name!r}: declares the poolings {' and '.join(declared.poolings)} together;"
            " choose one with model.pooling"
        )
    return declared.poolings[0] if declared.poolings else None


def text_prefix(name: str, declared: Declared, prefix: str, prompt: str) -> str:
    """Return the text to put before each text.

    Args:
        name: The encoder's name, for messages.
        declared: What it declares.
        prefix: `model.prefix`, which wins if it is given.
        prompt: `model.prompt`: the name of a declared prompt, `AUTO` or `NO_PROMPT`.

    Raises:
        UsageError: There is no such prompt, or its tokens would have to be left out of the pooling.
    """
    if prefix or prompt == NO_PROMPT:
        return prefix
    chosen = declared.default_prompt if prompt == AUTO else prompt
    if not chosen:
        return ""
    if chosen not in declared.prompts:
        known = [AUTO, NO_PROMPT, *declared.prompts]
        raise UsageError(
            f"model.prompt = {chosen!r}: encoder {name!r} has no such prompt:"
            f" {did_you_mean(chosen, known)}"
        )
    text = declared.prompts[chosen]
    if text and not declared.pools_prompt:
        raise UsageError(
            f"encoder {name!r}: leaves the tokens of its prompt {chosen!r} out of the pooling,"
            " which is not possible here; set model.prompt=none, or give the text as model.prefix"
        )
    return text


def _poolings(config: Mapping[str, Any]) -> tuple[str, ...]:
    mode = config.get("pooling_mode")
    if mode is None:
        on = tuple(ours for ours, (_, switch) in _POOLINGS.items() if config.get(switch))
        return on or ("mean",)
    ours = {theirs: name for name, (theirs, _) in _POOLINGS.items()}
    modes = [mode] if isinstance(mode, str) else list(mode)
    if unknown := [m for m in modes if m not in ours]:
        raise ValueError(f"unknown pooling {unknown[0]!r}: {did_you_mean(str(unknown[0]), ours)}")
    return tuple(ours[m] for m in modes)


def _read(name: str, source: Path | str, file: str) -> Any:
    """Return the content of a JSON file of an encoder; None if it has no such file."""
    path = source / file if isinstance(source, Path) else _from_hub(source, file)
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"encoder {name!r}: {file} can't be read: {type(error).__name__}: {first_line(error)}"
        ) from error


def _from_hub(source: str, file: str) -> Path | None:
    from transformers.utils.hub import cached_file  # takes seconds, and folders don't need it

    found = cached_file(
        source,
        file,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)
