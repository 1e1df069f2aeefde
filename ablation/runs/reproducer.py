"""Save the step at which a loss or gradient was not finite, and repeat it without the corpus.

    from pathlib import Path
    from ablation.runs.reproducer import repeat
    print(repeat(Path("reproducer")))  # the artifact folder of the failed run, downloaded

The folder holds `batch.json` (step, rows, token ids, labels, languages, settings),
`weights.safetensors` (the trained parameters before the step) and `state.safetensors` (the
encoder's trimmed vocabulary, and dropout's random state). Weights that don't train are not saved:
the encoder is loaded by its name.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ablation.config.schema import RunConfig
from ablation.core.errors import UsageError
from ablation.encoders.loading import load_encoder, pooling_of
from ablation.encoders.trimming import Vocabulary, embedding_of
from ablation.tracking.runs import TrackedRun
from ablation.training.batching import Texts, collate
from ablation.training.freezing import freeze
from ablation.training.lora import add_lora
from ablation.training.model import IntimacyRegressor, build_model
from ablation.training.optimizer import make_optimizer
from ablation.training.step import FailedStep, NotFiniteError, set_random_state, train_step
from ablation.training.train_run import Prepared, build_trimmed, choose_device

FOLDER: Final = "reproducer"
BATCH, WEIGHTS, STATE = "batch.json", "weights.safetensors", "state.safetensors"


@contextmanager
def save_reproducer_on_error(
    tracked: TrackedRun, config: RunConfig, prepared: Prepared
) -> Iterator[None]:
    """Save a step that raises NotFiniteError as the run's artifact folder `reproducer`."""
    try:
        yield
    except NotFiniteError as error:
        try:
            with tempfile.TemporaryDirectory() as scratch:
                save(Path(scratch), error.failed, config, prepared)
                for name in (BATCH, WEIGHTS, STATE):
                    tracked.log_file(f"{FOLDER}/{name}", Path(scratch) / name)
        except Exception as lost:  # must not hide the reason why the run failed
            error.add_note(f"its reproducer could not be saved: {type(lost).__name__}: {lost}")
        raise


def save(folder: Path, failed: FailedStep, config: RunConfig, prepared: Prepared) -> None:
    """Write a failed step to `folder`."""
    batch, vocabulary = failed.batch, prepared.vocabulary
    ids = np.split(
        vocabulary.kept[batch.ids.cpu().numpy()], np.cumsum(batch.lengths.cpu().numpy())[:-1]
    )
    content = {
        "step": failed.step,
        "values": {name: repr(value) for name, value in failed.metrics.items()},
        "rows": batch.row.tolist(),
        "ids": [row.tolist() for row in ids],
        "labels": batch.label.tolist(),
        "weights": None if batch.weight is None else batch.weight.tolist(),
        "languages": [prepared.languages[i] for i in batch.language.tolist()],
        "config": config.model_dump(mode="json"),
        "original_vocabulary": vocabulary.original_size,
    }
    (folder / BATCH).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in failed.weights.items()},
        folder / WEIGHTS,
    )
    state = {
        "vocabulary": torch.from_numpy(np.ascontiguousarray(vocabulary.kept)),
        "random_state": failed.random_state,
    }
    save_file(state, folder / STATE)


def repeat(folder: Path) -> dict[str, float]:
    """Repeat the step in `folder`.

    Args:
        folder: The artifact folder `reproducer` of a failed run.

    Returns:
        Loss, its terms and the gradient norm by name, equal to those that the run had. On another
        machine, or on a GPU instead of the CPU, dropout and rounding may differ.

    Raises:
        UsageError: The folder holds no reproducer, or its encoder can't be used.
    """
    saved = _load(folder)
    model = _rebuild(folder, saved)
    device = choose_device()
    model.to(device).train()
    batch = collate(saved.texts, np.arange(len(saved.texts)), device)
    optimizer = make_optimizer(model, saved.config.optimisation)
    set_random_state(device, saved.random_state)
    try:
        return train_step(model, batch, optimizer, saved.config, saved.step - 1).metrics
    except NotFiniteError as error:
        return error.failed.metrics


@dataclass(frozen=True)
class _SavedStep:
    """A saved step: `step` counts from 1, `texts` are the batch."""

    step: int
    texts: Texts
    config: RunConfig
    vocabulary: Vocabulary
    weights: dict[str, torch.Tensor]
    random_state: torch.Tensor


def _load(folder: Path) -> _SavedStep:
    try:
        content = json.loads((folder / BATCH).read_text("utf-8"))
        weights, state = load_file(folder / WEIGHTS), load_file(folder / STATE)
        vocabulary = Vocabulary(state["vocabulary"].numpy(), int(content["original_vocabulary"]))
        texts = Texts(
            [vocabulary.translate(np.asarray(ids, dtype=np.int64)) for ids in content["ids"]],
            np.asarray(content["labels"], dtype=np.float64),
            np.unique(content["languages"], return_inverse=True)[1],
            np.asarray(content["rows"]),
            weight=None
            if content.get("weights") is None
            else np.asarray(content["weights"], dtype=np.float32),
        )
        config = RunConfig.model_validate(content["config"])
        step = int(content["step"])
        return _SavedStep(step, texts, config, vocabulary, weights, state["random_state"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: holds no reproducer of a run: {type(error).__name__}: {error}"
        ) from error


def _rebuild(folder: Path, saved: _SavedStep) -> IntimacyRegressor:
    """Rebuild the model as it was before the step."""
    settings = saved.config.model
    encoder = load_encoder(settings.encoder, settings.layers)
    if len(saved.vocabulary.kept) < embedding_of(encoder.model).num_embeddings:
        encoder = build_trimmed(encoder, saved.vocabulary)
    pooling = pooling_of(encoder, settings.pooling)
    model = build_model(
        encoder.model,
        pooling,
        dropout=settings.dropout,
        label_mean=0.0,
        seed=0,
        head=settings.head,
    )
    if settings.frozen_tuning:
        freeze(model, settings.freeze_layers, dropout=settings.frozen_dropout)
    if settings.lora_rank is not None:
        add_lora(model, settings, seed=0)
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    if set(saved.weights) != trainable:
        raise UsageError(f"{folder}: its weights are not those of encoder {settings.encoder!r}")
    model.load_state_dict(saved.weights, strict=False)
    return model
