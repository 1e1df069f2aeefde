"""Save the step whose loss or gradient was not finite, and repeat it without the corpus.

    from pathlib import Path
    from ablation.runs.reproducer import repeat
    print(repeat(Path("reproducer")))  # the artifact folder of the failed run, downloaded

The folder holds `batch.json` (step, rows, token ids, labels, languages, settings),
`weights.safetensors` (the trained parameters before the step) and `state.safetensors` (the trimmed
vocabulary and dropout's random state). The encoder is loaded by its name for all that is frozen.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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
from ablation.training.model import build_model
from ablation.training.optimizer import make_optimizer
from ablation.training.step import FailedStep, NotFiniteError, set_random_state, train_step
from ablation.training.train_run import Prepared, build_trimmed, choose_device

FOLDER: Final = "reproducer"
BATCH, WEIGHTS, STATE = "batch.json", "weights.safetensors", "state.safetensors"


@contextmanager
def save_reproducer_on_error(
    tracked: TrackedRun, config: RunConfig, prepared: Prepared
) -> Iterator[None]:
    """Log a failed step as the artifact folder `reproducer` of the run, and raise its error."""
    try:
        yield
    except NotFiniteError as error:
        try:
            with tempfile.TemporaryDirectory() as scratch:
                save(Path(scratch), error.failed, config, prepared)
                for name in (BATCH, WEIGHTS, STATE):
                    tracked.log_file(f"{FOLDER}/{name}", Path(scratch) / name)
        except Exception as lost:  # the reason why the run failed must not be hidden by this one
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
        "ids": [text.tolist() for text in ids],
        "labels": batch.label.tolist(),
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
    """Repeat the step in `folder`; return its loss, terms and gradient norm by name.

    On another machine, or on a GPU instead of the CPU, dropout and rounding may differ. Raises
    UsageError if the folder holds no reproducer, or its encoder can't be had.
    """
    try:
        content = json.loads((folder / BATCH).read_text("utf-8"))
        weights, state = load_file(folder / WEIGHTS), load_file(folder / STATE)
        config = RunConfig.model_validate(content["config"])
        vocabulary = Vocabulary(state["vocabulary"].numpy(), int(content["original_vocabulary"]))
        languages = np.unique(content["languages"], return_inverse=True)[1]
        ids = [vocabulary.translate(np.asarray(each, dtype=np.int64)) for each in content["ids"]]
        texts = Texts(
            ids,
            np.asarray(content["labels"], dtype=np.float64),
            languages,
            np.asarray(content["rows"]),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"{folder}: holds no reproducer of a run: {type(error).__name__}: {error}"
        ) from error
    encoder = load_encoder(config.model.encoder, config.model.layers)
    if len(vocabulary.kept) < embedding_of(encoder.model).num_embeddings:
        encoder = build_trimmed(encoder, vocabulary)
    pooling = pooling_of(encoder, config.model.pooling)
    model = build_model(
        encoder.model, pooling, dropout=config.model.dropout, label_mean=0.0, seed=0
    )
    if config.model.frozen_tuning:
        freeze(model, config.model.freeze_layers, dropout=config.model.frozen_dropout)
    if set(weights) != {name for name, p in model.named_parameters() if p.requires_grad}:
        raise UsageError(f"{folder}: its weights are not those of encoder {config.model.encoder!r}")
    model.load_state_dict(weights, strict=False)
    device = choose_device()
    model.to(device).train()
    batch = collate(texts, np.arange(len(texts)), device)
    optimizer = make_optimizer(model, config.optimisation)
    set_random_state(device, state["random_state"])
    try:
        return train_step(model, batch, optimizer, config, int(content["step"]) - 1).metrics
    except NotFiniteError as error:
        return error.failed.metrics
