"""One optimizer step: the gradients of a batch's loss, their clipping, and the update.

A batch is run whole, in two threads (`ablation.training.parallel`), or in micro-batches that need
less memory. The loss is that of the whole batch in each case.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer

from ablation.config.schema import LossConfig, Precision, RunConfig
from ablation.core.errors import RunError
from ablation.encoders.dropout import drawn_from
from ablation.training.batching import Batch, merge, split_batch
from ablation.training.cuda_graphs import graphed_forward
from ablation.training.losses import LossTerms, total_loss
from ablation.training.model import IntimacyRegressor, Output
from ablation.training.parallel import count_pieces, map_threads
from ablation.training.precision import autocast

#: Computes further metrics from the loss terms of a step, before the weights change. The graph of
#: the terms reaches the weights. Not called for a step in micro-batches, whose graphs are freed.
OnTerms = Callable[[IntimacyRegressor, LossTerms], Mapping[str, float]]

#: Rows that an error message names.
_ROWS_IN_MESSAGE = 8


class StepResult(NamedTuple):
    """The outcome of one step.

    `prediction` is on the CPU. `metrics` are named as in the training curves;
    `train/loss_contrastive` is missing if the batch has no contrastive term. `term_metrics` are
    those of the callback on the loss terms.
    """

    prediction: Float[Tensor, " batch"]
    metrics: dict[str, float]
    term_metrics: Mapping[str, float]


@dataclass(frozen=True)
class FailedStep:
    """Everything that is needed to repeat a step, see `ablation.runs.reproducer`.

    `step` counts from 1. `weights` are the trained parameters before the step, `random_state` is
    the state from which its dropout was drawn, and `metrics` holds the number that is not finite.
    """

    step: int
    batch: Batch
    metrics: dict[str, float]
    weights: dict[str, Tensor]
    random_state: UInt8[Tensor, " bytes"]


class NotFiniteError(RunError):
    """A loss or gradient norm is not a finite number."""

    def __init__(self, message: str, failed: FailedStep) -> None:
        super().__init__(message)
        self.failed = failed


def train_step(
    model: IntimacyRegressor,
    batch: Batch,
    optimizer: Optimizer,
    config: RunConfig,
    step: int,
    on_terms: OnTerms | None = None,
) -> StepResult:
    """Make one optimizer step.

    Args:
        model: The model, in training mode; it is changed in place.
        batch: At least one text.
        optimizer: The optimizer of the model's parameters.
        config: The loss, and how the batch is run (`optimisation.micro_batch`, `.precision`,
            `.max_grad_norm`).
        step: The number of steps before this one, for the error message.
        on_terms: Computes further metrics.

    Raises:
        NotFiniteError: The loss or the gradient norm is not finite; the weights are unchanged.
    """
    random_state = get_random_state(batch.ids.device)
    optimizer.zero_grad(set_to_none=True)
    output, terms, term_metrics = _compute_gradients(model, batch, config, on_terms)
    trained = [p for p in model.parameters() if p.requires_grad]
    norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
    # On a GPU the norm is not known yet: asking for it would wait. Then all are multiplied by one.
    if norm.device.type != "cpu" or norm > config.optimisation.max_grad_norm:
        nn.utils.clip_grads_with_norm_(trained, config.optimisation.max_grad_norm, norm)
    metrics, prediction = _read(terms, norm, output.prediction)
    if not_finite := [name for name, value in metrics.items() if not math.isfinite(value)]:
        rows = ", ".join(map(str, batch.row[:_ROWS_IN_MESSAGE]))
        more = " ..." if len(batch.row) > _ROWS_IN_MESSAGE else ""
        weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        raise NotFiniteError(
            f"{not_finite[0]} is not a finite number at step {step + 1}"
            f" (training rows {rows}{more})",
            FailedStep(step + 1, batch, metrics, weights, random_state),
        )
    optimizer.step()
    return StepResult(prediction, metrics, term_metrics)


def _read(
    terms: LossTerms, norm: Tensor, prediction: Float[Tensor, " batch"]
) -> tuple[dict[str, float], Float[Tensor, " batch"]]:
    """Read the terms of the loss, the gradients' norm and the predictions from the device at once.

    The predictions have no graph: kept from one step to the next, it breaks the capture of a CUDA
    graph.
    """
    values = {
        "train/loss": terms.total,
        "train/loss_regression": terms.regression,
        "train/grad_norm": norm,
    }
    values |= {f"train/loss_{name}": value for name, value in terms.named.items()}
    if terms.contrastive is not None:
        values["train/loss_contrastive"] = terms.contrastive
    scalars = [value.detach().float() for value in values.values()]
    read = torch.cat([torch.stack(scalars), prediction.detach().float()]).cpu()
    terms_read, prediction_read = read.split([len(scalars), len(prediction)])
    return dict(zip(values, terms_read.tolist(), strict=True)), prediction_read


def _compute_gradients(
    model: IntimacyRegressor, batch: Batch, config: RunConfig, on_terms: OnTerms | None
) -> tuple[Output, LossTerms, Mapping[str, float]]:
    """Add the gradients of the batch's loss to the parameters, and compute further metrics."""
    micro_batch = config.optimisation.micro_batch
    if micro_batch is not None and len(batch.lengths) > micro_batch:
        output, terms = grad_cache_step(model, batch, micro_batch, config)
        return output, terms, {}
    if (pieces := count_pieces(model)) > 1:
        return _threaded_step(model, batch, pieces, config, on_terms)
    precision = config.optimisation.precision
    # Metrics of the terms may ask for gradients several times; a graph has them once.
    graphed = graphed_forward(model, batch, precision) if on_terms is None else None
    output = graphed or _forward(model, batch, precision)
    terms = _batch_loss(output, batch, config.loss)
    term_metrics = {} if on_terms is None else on_terms(model, terms)
    terms.total.backward()
    return output, terms, term_metrics


def _threaded_step(
    model: IntimacyRegressor,
    batch: Batch,
    pieces: int,
    config: RunConfig,
    on_terms: OnTerms | None,
) -> tuple[Output, LossTerms, Mapping[str, float]]:
    """Compute the gradients of the whole batch's loss from pieces that run in a thread each."""

    def forward(piece: Batch, seed: int) -> Output:
        with drawn_from(seed):
            return _forward(model, piece, config.optimisation.precision)

    split = split_batch(batch, pieces)
    # Seeded from the process's generator, so that repeating the step repeats the pieces' dropout.
    outputs = map_threads(forward, split, torch.randint(2**62, (len(split),)).tolist())
    merged, terms, gradients = _output_gradients(outputs, batch, config.loss)
    term_metrics: Mapping[str, float] = {}
    if on_terms is not None:  # needs a graph that reaches the weights
        connected = _batch_loss(_merge_outputs(outputs), batch, config.loss)
        term_metrics = on_terms(model, connected)
    map_threads(_backward, outputs, gradients)
    return merged, terms, term_metrics


def grad_cache_step(
    model: IntimacyRegressor, batch: Batch, micro_batch: int, config: RunConfig
) -> tuple[Output, LossTerms]:
    """Compute the gradients of the whole batch's loss with `micro_batch` texts in memory at a time.

    The gradients are exact, also for the pairs of Eq. 9. Every piece is run twice: first without
    gradients, for the outputs that the loss is computed from; then with the same dropout, to
    propagate the loss's gradient with respect to these outputs (Gao et al., 2021, "Scaling deep
    contrastive learning batch size under memory limited setup").
    """
    device, precision = batch.ids.device, config.optimisation.precision
    pieces = split_batch(batch, -(-len(batch.lengths) // micro_batch))
    states, outputs = [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(get_random_state(device))
            outputs.append(_forward(model, piece, precision))
    merged, terms, gradients = _output_gradients(outputs, batch, config.loss)
    for piece, state, gradient in zip(pieces, states, gradients, strict=True):
        set_random_state(device, state)
        _backward(_forward(model, piece, precision), gradient)
    return merged, terms


def _batch_loss(output: Output, batch: Batch, config: LossConfig) -> LossTerms:
    return total_loss(output, batch.label, batch.language, config, batch.weight)


def _forward(model: IntimacyRegressor, batch: Batch, precision: Precision) -> Output:
    with autocast(batch.ids.device, precision):
        output: Output = model(batch.ids, batch.lengths, batch.hidden)
    return output


def _output_gradients(
    outputs: Sequence[Output], batch: Batch, loss: LossConfig
) -> tuple[Output, LossTerms, list[Sequence[Tensor | None]]]:
    """Compute the loss of a split batch and its gradient with respect to each piece's outputs.

    Returns:
        The merged output, the loss terms, and for each piece the gradients of prediction and
        sentence vectors, None where the loss does not depend on them.
    """
    leaves = [Output(*(part.detach().requires_grad_() for part in output)) for output in outputs]
    merged = _merge_outputs(leaves)
    terms = _batch_loss(merged, batch, loss)
    flat = torch.autograd.grad(
        terms.total, [part for leaf in leaves for part in leaf], allow_unused=True
    )
    return merged, terms, [flat[i : i + len(merged)] for i in range(0, len(flat), len(merged))]


def _merge_outputs(outputs: Sequence[Output]) -> Output:
    return Output(*map(merge, zip(*outputs, strict=True)))


def _backward(output: Output, gradients: Sequence[Tensor | None]) -> None:
    """Add to the parameters' gradients what reaches them through `output`."""
    connected = [
        (part, gradient)
        for part, gradient in zip(output, gradients, strict=True)
        if gradient is not None
    ]
    torch.autograd.backward([part for part, _ in connected], [grad for _, grad in connected])


def get_random_state(device: torch.device) -> UInt8[Tensor, " bytes"]:
    """Return the state of the generator from which dropout is drawn on `device`."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_random_state(device: torch.device, state: UInt8[Tensor, " bytes"]) -> None:
    """Restore what `get_random_state` returned; ignore the state of another kind of device."""
    if state.shape != get_random_state(device).shape:
        return
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
