"""Keep the best weights of finished runs, so that using a model needs no training.

A kept run is a folder `weights/<identity>` in the state folder: the parameters that were trained,
with the embeddings of the trimmed vocabulary only, and a JSON file that says how to rebuild the
model. The JSON file is written last and holds the SHA-256 of the weights.
"""

import hashlib
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ablation.config.schema import RunConfig
from ablation.core.errors import UsageError, first_line
from ablation.core.files import flush_to_disk, write_atomically
from ablation.core.identity import RunKey
from ablation.core.locks import lock, try_lock
from ablation.core.state import KEPT_ABOUT as _ABOUT
from ablation.core.state import kept_folder, weights_root
from ablation.encoders.loading import Encoder, load_encoder, pooling_of
from ablation.encoders.sources import encoder_digest
from ablation.encoders.trimming import (
    Vocabulary,
    embedding_of,
    full_vocabulary,
    restore,
    trim,
)
from ablation.training.lora import add_lora, merge_lora
from ablation.training.model import IntimacyRegressor, set_dropout
from ablation.training.training_state import trained_weights

_SCHEMA: Final = 1
_WEIGHTS: Final = "weights.safetensors"
_VOCABULARY: Final = "vocabulary"


class AboutModel(BaseModel):
    """The origin of a model: enough to rebuild it from kept weights, and to describe it.

    Attributes:
        identity: The digest of the run's identity.
        config: The run's settings.
        parts: The digests that the identity was computed from, see `ablation.core.identity`.
        corpus: The corpus's name.
        reference: The published corpus that its rows are, such as "MINT", if any.
        synthetic: True for the demo corpus.
        languages: The languages with training rows.
        label_range: The ends of the labels' scale.
        is_pair: True if a row is a pair of texts.
        best_epoch: The epoch that development rows selected; None if the run collapsed.
        dev_pearson: Its pooled Pearson on development rows; None if it has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = _SCHEMA
    identity: str
    variant: str
    split: str
    seed: int
    config: RunConfig
    parts: dict[str, str]
    corpus: str
    reference: str | None = None
    synthetic: bool = False
    languages: tuple[str, ...] = ()
    label_range: tuple[float, float]
    is_pair: bool = False
    best_epoch: int | None = None
    dev_pearson: float | None = None

    @property
    def key(self) -> RunKey:
        """The run's coordinates."""
        return RunKey(self.variant, self.split, self.seed)


class _KeptFile(AboutModel):
    """The JSON file of a kept run: the model's origin, and the digest of the file beside it."""

    sha256: str


@dataclass(frozen=True)
class KeptRun:
    """The kept weights of a run in `folder`; `size_bytes` is what they occupy."""

    folder: Path
    about: AboutModel
    size_bytes: int


def keep_weights(model: IntimacyRegressor, vocabulary: Vocabulary, about: AboutModel) -> KeptRun:
    """Write the trained parameters of `model` to the state folder, whole or not at all.

    Args:
        model: The trained model, with the weights of its best epoch.
        vocabulary: The tokens that its embeddings have.
        about: The model's origin.

    Raises:
        OSError: The folder can't be written.
    """
    tensors = {name: value.cpu().contiguous() for name, value in trained_weights(model).items()}
    if _embedding_name(model) in tensors and len(vocabulary.kept) < vocabulary.original_size:
        tensors[_VOCABULARY] = torch.from_numpy(vocabulary.kept)
    folder = kept_folder(about.identity)
    with lock(_lock_name(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / _WEIGHTS
        draft = weights.with_suffix(".part")
        try:
            save_file(tensors, draft)
            flush_to_disk(draft)
            (folder / _ABOUT).unlink(missing_ok=True)  # it must never describe other weights
            draft.replace(weights)
        except SafetensorError as error:  # the library's error for a full disk
            raise OSError(None, first_line(error), str(folder)) from error
        finally:
            draft.unlink(missing_ok=True)
        kept = _KeptFile(**dict(about), sha256=_digest(weights))
        write_atomically(folder / _ABOUT, kept.model_dump_json(indent=2) + "\n")
    return KeptRun(folder, about, _size(folder))


def copy_kept(kept: KeptRun, about: AboutModel) -> None:
    """Keep the weights of a run for another run too, whose model is the same.

    Raises:
        OSError: The folder can't be written.
    """
    folder = kept_folder(about.identity)
    with lock(_lock_name(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ABOUT).unlink(missing_ok=True)
        shutil.copyfile(kept.folder / _WEIGHTS, folder / _WEIGHTS)
        flush_to_disk(folder / _WEIGHTS)
        copied = _KeptFile(**dict(about), sha256=_digest(folder / _WEIGHTS))
        write_atomically(folder / _ABOUT, copied.model_dump_json(indent=2) + "\n")


def find_kept(identity: str) -> KeptRun | None:
    """Return the kept weights of a run, unread; None if there are none."""
    return _read(kept_folder(identity))


def all_kept() -> Iterator[KeptRun]:
    """Yield every kept run, in the order of their folders' names."""
    for folder in sorted(weights_root().glob("*/")):
        if (kept := _read(folder)) is not None:
            yield kept


def remove_kept(identities: Collection[str]) -> int:
    """Remove the kept weights of these runs, and return how many there were."""
    folders = [folder for identity in identities if (folder := kept_folder(identity)).is_dir()]
    for folder in folders:
        with suppress(OSError):
            (folder / _ABOUT).unlink(missing_ok=True)  # first: half a folder must not be used
        shutil.rmtree(folder, ignore_errors=True)
    return len(folders)


def remove_corrupt_weights() -> list[Path]:
    """Remove kept folders that are incomplete or whose weights changed, and return them."""
    corrupt = []
    for folder in sorted(weights_root().glob("*/")):
        with try_lock(_lock_name(folder)) as acquired:  # else another process is writing it
            if acquired and not _is_intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                corrupt.append(folder)
    return corrupt


def rebuild(kept: KeptRun) -> tuple[IntimacyRegressor, Encoder]:
    """Build the model of a kept run with its whole vocabulary, in evaluation mode, on the CPU.

    Returns:
        The model, and its encoder with the tokenizer; both share their weights.

    Raises:
        UsageError: The weights are corrupt, or the encoder that they belong to can't be loaded or
            is another one by now.
    """
    about, model_config = kept.about, kept.about.config.model
    if not _is_intact(kept.folder):
        raise UsageError(
            f"{kept.folder}: the kept weights of {about.key} are corrupt; remove them with"
            " `ablation doctor`, and train the run again with `ablation run --fresh`"
        )
    if encoder_digest(model_config.encoder) != about.parts.get("encoder"):
        raise UsageError(
            f"{about.key}: encoder {model_config.encoder!r} has changed since the run was"
            " trained, and its kept weights do not fit it; train the run again"
        )
    encoder = load_encoder(model_config.encoder, model_config.layers)
    if model_config.dropout is not None:
        set_dropout(encoder.model, model_config.dropout)
    pooling = pooling_of(encoder, model_config.pooling)
    model = IntimacyRegressor(
        encoder.model, pooling, label_mean=0.0, seed=0, head=model_config.head
    )
    if model_config.lora_rank is not None:
        add_lora(model, model_config, seed=0)
    tensors = load_file(kept.folder / _WEIGHTS)
    pretrained = embedding_of(encoder.model).weight
    vocabulary = full_vocabulary(encoder.model)
    if (trimmed := tensors.pop(_VOCABULARY, None)) is not None:
        vocabulary = Vocabulary(trimmed.numpy(), vocabulary.original_size)
        trim(encoder.model, vocabulary)
    try:
        unexpected = model.load_state_dict(tensors, strict=False).unexpected_keys
    except RuntimeError as error:
        raise UsageError(
            f"{kept.folder}: weights do not fit the encoder: {first_line(error)}"
        ) from error
    if unexpected:
        raise UsageError(
            f"{kept.folder}: weights do not fit the encoder, which has no {unexpected[0]}"
        )
    if trimmed is not None:
        restore(encoder.model, vocabulary, pretrained)
    if model_config.lora_rank is not None:
        merge_lora(encoder.model)
    return model.eval(), encoder


def _lock_name(folder: Path) -> str:
    return f"weights-{folder.name}"


def _embedding_name(model: IntimacyRegressor) -> str:
    weight = embedding_of(model.encoder).weight
    return next(name for name, parameter in model.named_parameters() if parameter is weight)


def _read(folder: Path) -> KeptRun | None:
    try:
        stored = _KeptFile.model_validate_json((folder / _ABOUT).read_text("utf-8"))
        about = AboutModel(**{n: getattr(stored, n) for n in AboutModel.model_fields})
        return KeptRun(folder, about, _size(folder))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _is_intact(folder: Path) -> bool:
    try:
        stored = _KeptFile.model_validate_json((folder / _ABOUT).read_text("utf-8"))
        return stored.sha256 == _digest(folder / _WEIGHTS)
    except (OSError, ValidationError, UnicodeDecodeError):
        return False


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
