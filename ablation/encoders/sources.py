"""Where an encoder's weights and tokenizer are: bundled, tiny, a local folder or a Hub id; and what identifies them.

Neither torch nor transformers is imported for what lies on the disk: a plan asks for the digest and no more.
"""

import hashlib
import json
from pathlib import Path

from ablation.core.errors import UsageError
from ablation.encoders.bundled import bundled_encoder
from ablation.encoders.tiny import tiny_encoder


def encoder_digest(name: str) -> str:
    """What identifies the encoder's weights and tokenizer, without loading them.

    The SHA-256 of a local folder's files, or the commit that a Hub id stands at. Raises UsageError
    like `load_encoder`.
    """
    source = source_of(name)
    if isinstance(source, Path):
        try:
            return _files_digest(source)
        except OSError as error:
            raise UsageError(
                f"encoder {name!r}: {error.filename}: can't be read: {error.strerror}"
            ) from error
    quieten()
    from transformers import AutoConfig  # seconds, and only the Hub's own ids need it

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the libraries below raise a dozen kinds
        raise UsageError(explain(name, source, error)) from error
    return str(getattr(config, "_commit_hash", None) or "unknown")


def source_of(name: str) -> Path | str:
    """The encoder's folder, or its id on the Hub. Raises UsageError for a folder that can't serve."""
    if name == "bundled":
        return bundled_encoder()
    if name == "tiny":
        return tiny_encoder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"encoder {name!r}: the folder has no config.json; it needs the Hub's layout"
            )
        if not list(folder.glob("*.safetensors")):
            raise UsageError(
                f"encoder {name!r}: no .safetensors file in the folder; pickled weights are not read"
            )
        _require_safe_index(name, folder / "model.safetensors.index.json")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"encoder {name!r}: there is no such folder")
    return name


def explain(name: str, source: Path | str, error: Exception) -> str:
    """One line on an encoder that could not be had, and the ways out."""
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if isinstance(source, Path):
        return f"encoder {name!r}: can't be loaded from {source}: {first_line}"
    return (
        f"encoder {name!r}: can't be had from the Hugging Face Hub ({first_line}); check the id and the network, "
        "give a local folder in the Hub's layout, or use --encoder bundled"
    )


def quieten() -> None:
    """No bars, retries and notes on dropped weights: they would tear the run table."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def _require_safe_index(name: str, index: Path) -> None:
    """An index may name any file as a part of the weights: only safetensors beside it are let through."""
    if not index.is_file():
        return
    try:
        parts = {str(part) for part in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"encoder {name!r}: {index.name} is no index of weights: {type(error).__name__}"
        ) from error
    if wrong := sorted(
        part for part in parts if Path(part).name != part or not part.endswith(".safetensors")
    ):
        raise UsageError(
            f"encoder {name!r}: {index.name} names {wrong[0]!r}: only .safetensors files beside it are read"
        )


def _files_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
