"""Hugging Face's `Trainer` on the same work: as most people run it, and at its best."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers.data.data_collator import DataCollatorWithPadding
from transformers.trainer_utils import set_seed

from ablation.bench.workload import Workload
from ablation.config.schema import OptimisationConfig
from ablation.data.seeding import seed_for
from ablation.encoders.loading import transformer_layers
from ablation.training.train_run import choose_device

#: "padded": every text to the longest length allowed. "best": to the batch's longest, texts of like length together.
Way = Literal["padded", "best"]
#: Steps that are not timed: the first ones allocate.
WARM_UP_STEPS: Final = 1


@dataclass(frozen=True)
class Timing:
    """Texts and useful tokens trained in `seconds`, warm-up left out."""

    texts: int
    tokens: int
    seconds: float

    @property
    def texts_per_second(self) -> float:
        return self.texts / self.seconds


class PaddedRegressor(nn.Module):
    """Eq. 1 as it is usually written: an encoder on padded texts, the first token's vector or the mean, a linear head."""

    def __init__(self, encoder: PreTrainedModel, pooling: str, label_mean: float) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.pooling = pooling
        self.head = nn.Linear(int(encoder.config.hidden_size), 1)
        generator = torch.Generator().manual_seed(seed_for("head", 0))
        with torch.no_grad():
            self.head.weight.normal_(0.0, 0.02, generator=generator)
            self.head.bias.fill_(label_mean)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (texts, width); the mean squared error where `labels` (texts,) are given."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            sentence = hidden[:, 0]
        else:
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            sentence = (hidden * mask).sum(1) / mask.sum(1)
        logits = self.head(sentence).squeeze(-1).float()
        return (
            {"logits": logits}
            if labels is None
            else {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}
        )


def padded_regressor(workload: Workload, *, dropout: float | None = None) -> PaddedRegressor:
    """The model for `train`, with the whole vocabulary; the same start as this suite's."""
    model = PaddedRegressor(
        workload.prepared.encoder.model, workload.pooling, float(workload.texts.label.mean())
    )
    if dropout is not None:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
    if workload.frozen_layers is not None:
        model.encoder.get_submodule("embeddings").requires_grad_(False)
        for layer in transformer_layers(model.encoder)[: workload.frozen_layers]:
            layer.requires_grad_(False)
    return model


def train(
    workload: Workload,
    way: Way,
    *,
    bfloat16: bool = False,
    steps: int | None = None,
    in_order: bool = False,
    model: PaddedRegressor | None = None,
    on_loss: Callable[[float], None] | None = None,
) -> Timing:
    """One epoch (or its first `steps`) over the rows, timed; `in_order` takes them as they stand.

    `on_loss` hears each step's loss.
    """
    device = choose_device()
    texts = workload.whole
    rows = _Rows(workload, pad=way == "padded")
    watch = _StopWatch()
    optimisation = workload.config.optimisation
    model = padded_regressor(workload) if model is None else model
    with tempfile.TemporaryDirectory() as folder, _listening(model, on_loss):
        set_seed(0)
        trainer = _trainer(in_order)(
            model=model,
            args=_arguments(
                folder,
                way,
                optimisation,
                bfloat16=bfloat16,
                steps=steps,
                on_cpu=device.type == "cpu",
            ),
            train_dataset=rows,
            data_collator=cast(
                Any, default_data_collator if way == "padded" else _dynamic(workload)
            ),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    count = len(watch.ends)
    if way == "padded" or in_order or steps is not None:  # every batch costs the same, or is known
        timed = np.arange(len(texts))[
            WARM_UP_STEPS * workload.batch_size : count * workload.batch_size
        ]
        return Timing(len(timed), int(texts.lengths[timed].sum()), watch.seconds())
    # The longest text is in the first batch: leaving that out would flatter, so the whole epoch counts.
    return Timing(len(texts), int(texts.lengths.sum()), watch.ends[-1] - watch.began)


def _arguments(
    folder: str,
    way: Way,
    optimisation: OptimisationConfig,
    *,
    bfloat16: bool,
    steps: int | None,
    on_cpu: bool,
) -> TrainingArguments:
    best: dict[str, Any] = {
        "train_sampling_strategy": "group_by_length",
        "bf16": bfloat16,
        "optim": "adamw_torch_fused",
    }
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=optimisation.batch_size,
        num_train_epochs=1,
        max_steps=-1 if steps is None else steps,
        learning_rate=optimisation.lr_encoder,
        weight_decay=optimisation.weight_decay,
        adam_epsilon=optimisation.adam_eps,
        max_grad_norm=optimisation.max_grad_norm,
        lr_scheduler_type="linear",
        use_cpu=on_cpu,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        **(best if way == "best" else {}),
    )


def _dynamic(workload: Workload) -> DataCollatorWithPadding:
    return DataCollatorWithPadding(workload.prepared.encoder.tokenizer)


class _Rows(Dataset[dict[str, Any]]):
    """The rows as a tokenizer gives them, padded to `data.max_tokens` or not at all."""

    def __init__(self, workload: Workload, *, pad: bool) -> None:
        self._texts = workload.whole
        self._padding = int(workload.prepared.encoder.tokenizer.pad_token_id) if pad else None
        self._width = workload.config.data.max_tokens

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids = self._texts.ids[index].tolist()
        mask = [1] * len(ids)
        if self._padding is not None:
            short = self._width - len(ids)
            ids, mask = ids + [self._padding] * short, mask + [0] * short
        return {"input_ids": ids, "attention_mask": mask, "labels": float(self._texts.label[index])}


class _StopWatch(TrainerCallback):
    """When training began, and when each step ended."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ends: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.began or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        return self.ends[-1] - self.ends[WARM_UP_STEPS - 1]


def _trainer(in_order: bool) -> type[Trainer]:
    class InOrder(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
            return SequentialSampler(cast(Any, train_dataset or self.train_dataset))

    return InOrder if in_order else Trainer


@contextmanager
def _listening(model: nn.Module, on_loss: Callable[[float], None] | None) -> Iterator[None]:
    if on_loss is None:
        yield
        return
    handle = model.register_forward_hook(
        lambda module, given, output: on_loss(float(output["loss"].detach()))
    )
    try:
        yield
    finally:
        handle.remove()
