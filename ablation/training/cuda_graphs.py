"""Replay a step's passes through the encoder as CUDA graphs.

A step of a hundred short texts keeps a GPU busy for a few milliseconds, but its thousand kernels
take the host many times as long to launch one by one. A graph launches them at once. It needs fixed
shapes, so a batch's tokens are padded to a multiple with one more text that nothing depends on.

They are used where the variable ABLATION_CUDA_GRAPHS is 1, see `docs/benchmarks/notes.md`.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ablation.config.schema import Precision
from ablation.core.errors import first_line
from ablation.encoders.packing import Packing, is_packable, make_packing
from ablation.training.batching import Batch
from ablation.training.model import IntimacyRegressor, Output

#: The environment variable that turns graphs on.
SWITCH: Final = "ABLATION_CUDA_GRAPHS"
#: A shape is captured when it occurs for the n-th time: rare ones are not worth a capture.
CAPTURE_AT: Final = 3
#: The most shapes that are captured for a model.
MOST_GRAPHS: Final = 16
#: The least number of tokens that batches are padded to a multiple of.
_LEAST_STEP: Final = 64

Replay = Callable[..., tuple[Tensor, Tensor]]


@dataclass
class _Graphs:
    """The graphs of one model by shape, and how often each shape occurred."""

    replays: dict[tuple[object, ...], Replay] = field(default_factory=dict)
    seen: Counter[tuple[object, ...]] = field(default_factory=Counter)
    failure: str | None = None


_graphs: Final[dict[IntimacyRegressor, _Graphs]] = {}


class PaddedForward(nn.Module):
    """Predict the texts of a packing whose last text is padding.

    The arguments of a call are those of `padded_inputs`; its result are predictions (texts,) and
    sentence vectors (texts, hidden) of the texts before the padding.
    """

    def __init__(self, model: IntimacyRegressor, heads: int, width: int, precision: Precision):
        super().__init__()
        self.model = model
        self.heads, self.width, self.precision = heads, width, precision

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        text: Tensor,
        position: Tensor,
        offsets: Tensor,
        *hidden: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict; see the class."""
        packing = Packing(lengths, self.heads, self.width, text, position, offsets)
        with torch.autocast(
            ids.device.type,
            torch.bfloat16,
            enabled=self.precision == "bfloat16",
            cache_enabled=False,  # a graph must not read casts from before its capture
        ):
            output = self.model.predict_packed(ids, packing, *hidden)
        return output.prediction[:-1], output.sentence[:-1]


def padded_tokens(tokens: int) -> int:
    """Return the number of tokens to pad to: above `tokens`, by at most an eighth or 64."""
    step = max(_LEAST_STEP, (1 << (tokens.bit_length() - 1)) // 8)
    return (tokens // step + 1) * step


def padded_inputs(batch: Batch, model: IntimacyRegressor) -> tuple[int, tuple[Tensor, ...]]:
    """Return the width and the arguments of `PaddedForward` for a batch.

    One text of padding follows the batch's, at the position 0 of which there may be several
    tokens: nothing depends on their outputs.
    """
    tokens, device = len(batch.ids), batch.ids.device
    padding = padded_tokens(tokens) - tokens
    packing = make_packing(torch.cat([batch.lengths, torch.tensor([padding])]), model.encoder)
    inputs = [
        pad(batch.ids, (0, padding)),
        packing.lengths,
        packing.text,
        packing.position.clamp(max=int(batch.lengths.max()) - 1),
        packing.offsets,
    ]
    if batch.hidden is not None:
        inputs.append(pad(batch.hidden, (0, 0, 0, padding)))
    # Rounded up, so that batches with other longest texts have the same shape.
    width = max(-(-packing.width // _LEAST_STEP) * _LEAST_STEP, _LEAST_STEP)
    return width, tuple(value.to(device) for value in inputs)


def graphed_forward(model: IntimacyRegressor, batch: Batch, precision: Precision) -> Output | None:
    """Predict a training batch by a graph, with its gradients, or return None if there is none.

    Dropout is drawn as without graphs, from the device's generator, but in another order.
    """
    if not (
        os.environ.get(SWITCH) == "1"
        and batch.ids.device.type == "cuda"
        and precision == "bfloat16"
        and torch.is_grad_enabled()
        and model.training
        and is_packable(model.encoder)
        and not model.has_own_parts
    ):
        return None
    graphs = _graphs.setdefault(model, _Graphs())
    if graphs.failure is not None:
        return None
    width, inputs = padded_inputs(batch, model)
    key = (len(batch.lengths), width, len(inputs[0]), len(inputs))
    replay = graphs.replays.get(key)
    if replay is None:
        graphs.seen[key] += 1
        if graphs.seen[key] < CAPTURE_AT or len(graphs.replays) >= MOST_GRAPHS:
            return None
        try:
            replay = _capture(model, width, precision, inputs)
        except RuntimeError as error:  # an operation that a graph can't hold: train without
            graphs.failure = first_line(error)
            return None
        graphs.replays[key] = replay
    return Output(*replay(*inputs))


def release_graphs(model: IntimacyRegressor) -> None:
    """Free the graphs of a model that trains no more; they hold it, and memory for its batches."""
    _graphs.pop(model, None)


def _capture(
    model: IntimacyRegressor, width: int, precision: Precision, inputs: tuple[Tensor, ...]
) -> Replay:
    """Capture both passes for inputs of these shapes; leave the generator as it was."""
    heads = int(model.encoder.config.num_attention_heads)
    device = inputs[0].device
    random_state = torch.cuda.get_rng_state(device)
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    forward = PaddedForward(model, heads, width, precision).train()
    samples = tuple(value.clone() for value in inputs)
    try:
        replay = torch.cuda.make_graphed_callables(forward, samples, allow_unused_input=True)
    except RuntimeError:
        # A capture that broke off leaves the generator waiting for its end: give it a fresh state.
        generator.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        raise
    finally:
        torch.cuda.set_rng_state(random_state, device)
    return cast("Replay", replay)
