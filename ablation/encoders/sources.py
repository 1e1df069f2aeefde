"""Locate and identify an encoder: "bundled", "tiny", a local folder or an id on the Hub.

Neither torch nor transformers is imported for encoders on the disk, because a plan needs only the
digest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ablation.core.errors import UsageError, first_line
from ablation.encoders.bundled import bundled_encoder
from ablation.encoders.cache import check_cached, file_digests
from ablation.encoders.tiny import tiny_encoder

#: The names of the two encoders that need neither a folder nor a network.
BUNDLED: Final = "bundled"
TINY: Final = "tiny"
#: Endings of files that are never read: pickles, weights of other frameworks, code, and prose. All
#: other files, such as vocabularies, are part of the encoder's digest.
UNREAD_ENDINGS: Final = (
    *(".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pkl", ".pt", ".pth"),
    *(".py", ".pyc", ".md", ".png", ".jpg", ".pdf", "LICENSE", "LICENSE.txt", "NOTICE"),
)


def encoder_digest(name: str) -> str:
    """Identify the encoder's weights and tokenizer without loading them.

    Return the SHA-256 of a local folder's files, or the Hub's current commit of an id. Raises
    UsageError like `load_encoder`.
    """
    source = locate_encoder(name)
    if isinstance(source, Path):
        try:
            digests = file_digests(source, _is_part)
        except OSError as error:
            raise UsageError(
                f"encoder {name!r}: {error.filename}: can't be read: {error.strerror}"
            ) from error
        if name in (BUNDLED, TINY):
            check_cached(source, digests)
        return _digest(digests)
    silence_libraries()
    from transformers import (
        AutoConfig,
    )  # Imported here: it takes seconds, and only Hub ids need it.

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the libraries raise a dozen types
        raise UsageError(describe_failure(name, source, error)) from error
    return str(getattr(config, "_commit_hash", None) or "unknown")


def locate_encoder(name: str) -> Path | str:
    """Return the encoder's folder or Hub id. Raises UsageError for an invalid folder."""
    if name == BUNDLED:
        return bundled_encoder()
    if name == TINY:
        return tiny_encoder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"encoder {name!r}: the folder has no config.json; it needs the Hub's layout"
            )
        if not list(folder.glob("*.safetensors")):
            raise UsageError(
                f"encoder {name!r}: no .safetensors file in the folder;"
                " pickled weights are not read"
            )
        _require_safe_index(name, folder / "model.safetensors.index.json")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"encoder {name!r}: the folder does not exist")
    return name


def describe_failure(name: str, source: Path | str, error: Exception) -> str:
    """Return one line on an encoder that could not be loaded, with the ways out."""
    reason = first_line(error)
    if isinstance(source, Path):
        # transformers names tiktoken for every such file, which would read none of these.
        models = sorted(file.name for file in source.glob("*.model"))
        if models and not (source / "tokenizer.json").exists() and "tiktoken" in reason:
            return (
                f"encoder {name!r}: its tokenizer is in {models[0]} alone, which needs a library:"
                " pip install sentencepiece, or save its tokenizer.json beside it"
            )
        return f"encoder {name!r}: can't be loaded from {source}: {reason}"
    return (
        f"encoder {name!r}: can't be loaded from the Hugging Face Hub ({reason}); check the id and"
        " the network, give a local folder in the Hub's layout, or use --encoder bundled"
    )


def silence_libraries() -> None:
    """Turn off the libraries' progress bars and warnings, which would break up the run table."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity_error()


def _require_safe_index(name: str, index: Path) -> None:
    """Check that an index of weights names only safetensors files beside it. Raises UsageError."""
    if not index.is_file():
        return
    try:
        parts = {str(part) for part in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"encoder {name!r}: {index.name} is not an index of weights: {type(error).__name__}"
        ) from error
    if unsafe := sorted(
        part for part in parts if Path(part).name != part or not part.endswith(".safetensors")
    ):
        raise UsageError(
            f"encoder {name!r}: {index.name} names {unsafe[0]!r}:"
            " only .safetensors files beside it are read"
        )


def _digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over names and contents of files."""
    digest = hashlib.sha256()
    for path, content in digests.items():
        digest.update(path.encode() + b"\0" + bytes.fromhex(content))
    return digest.hexdigest()


def _is_part(file: Path) -> bool:
    """Tell if a file of an encoder's folder can change the encoder: new kinds of files count."""
    hidden = any(part.startswith(".") for part in file.parts)
    return not hidden and not file.name.endswith(UNREAD_ENDINGS)
