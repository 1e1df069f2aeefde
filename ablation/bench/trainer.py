"""Train with Hugging Face's `Trainer` on the same workload: as most people do, and at its best."""

import copy
import tempfile
import time
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
from ablation.data.seeding import seed_for
from ablation.encoders.loading import transformer_layers
from ablation.training.train_run import choose_device

#: "padded": every text is padded to the maximum length. "best": to the longest of its batch, and
#: texts of similar length share a batch.
Padding = Literal["padded", "best"]
#: Steps that are not timed: the first ones allocate memory.
WARM_UP_STEPS: Final = 1


@dataclass(frozen=True)
class Timing:
    """Texts and useful tokens trained in `seconds`, without the warm-up."""

    texts: int
    tokens: int
    seconds: float

    @property
    def texts_per_second(self) -> float:
        return self.texts / self.seconds


class PaddedRegressor(nn.Module):
    """Eq. 1 as usually written: padded texts, a pooled vector, and a linear head."""

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
        """Predict, and compute the mean squared error if labels are given.

        Args:
            input_ids: (texts, width).
            attention_mask: (texts, width).
            labels: (texts,).

        Returns:
            "logits" (texts,), and with labels "loss".
        """
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
    """Return the model for `train`: the whole vocabulary, and the same initial weights as ours."""
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


def train(workload: Workload, padding: Padding, *, bfloat16: bool = False) -> Timing:
    """Train for one epoch and time it.

    Args:
        workload: The texts and settings.
        padding: How texts are padded.
        bfloat16: Compute in bfloat16, with the best padding.
    """
    texts, model = workload.whole, padded_regressor(workload)
    with tempfile.TemporaryDirectory() as folder:
        best = _best_arguments(bfloat16=bfloat16) if padding == "best" else {}
        arguments = _arguments(workload, folder, best)
        watch = _run(Trainer, workload, model, arguments, padding)
    if padding == "padded":  # every batch costs the same: the first ones can be left out
        first, last = (steps * workload.batch_size for steps in (WARM_UP_STEPS, len(watch.ends)))
        timed = np.arange(len(texts))[first:last]
        return Timing(len(timed), int(texts.lengths[timed].sum()), watch.seconds())
    # The first batch has the longest text: without it the rate would be too high.
    return Timing(len(texts), int(texts.lengths.sum()), watch.ends[-1] - watch.began)


def losses_in_order(workload: Workload, model: PaddedRegressor, steps: int) -> list[float]:
    """Train `model` for some steps on the rows in their order, and return each step's loss."""
    losses: list[float] = []
    handle = model.register_forward_hook(
        lambda module, inputs, output: losses.append(float(output["loss"].detach()))
    )
    with tempfile.TemporaryDirectory() as folder:
        more = {**_best_arguments(bfloat16=False), "max_steps": steps}
        _run(_InOrder, workload, model, _arguments(workload, folder, more), "best")
    handle.remove()
    return losses


def _run(
    trainer_class: type[Trainer],
    workload: Workload,
    model: PaddedRegressor,
    arguments: TrainingArguments,
    padding: Padding,
) -> "_StopWatch":
    """Train, and return the times of the steps."""
    watch = _StopWatch()
    collator = (
        default_data_collator
        if padding == "padded"
        else DataCollatorWithPadding(workload.prepared.encoder.tokenizer)
    )
    set_seed(0)
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=_Rows(workload, pad=padding == "padded"),
        data_collator=cast(Any, collator),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return watch


def _best_arguments(*, bfloat16: bool) -> dict[str, Any]:
    return {
        "train_sampling_strategy": "group_by_length",
        "bf16": bfloat16,
        "optim": "adamw_torch_fused",
    }


def _arguments(workload: Workload, folder: str, more: dict[str, Any]) -> TrainingArguments:
    optimisation = workload.config.optimisation
    on_cpu = choose_device().type == "cpu"
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=optimisation.batch_size,
        num_train_epochs=1,
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
        **more,
    )


class _Rows(Dataset[dict[str, Any]]):
    """The rows as a tokenizer returns them, padded to `data.max_tokens` or not at all."""

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
    """The times at which training began and each step ended."""

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


class _InOrder(Trainer):
    """The `Trainer` with the rows in their order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(cast(Any, train_dataset or self.train_dataset))
