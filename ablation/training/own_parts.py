"""A pooling and a head of one's own: load them, and try them before anything trains.

A pooling is a function `pool(hidden, mask)`: hidden states (texts, tokens, hidden), padded to the
longest text, and a mask (texts, tokens) that is true for tokens; it returns (texts, features). A
pooling with parameters is a class of `torch.nn.Module` with such a `forward`, made with the number
of hidden features. A head is a class of `torch.nn.Module`, or a function that makes one, given the
number of the sentence vector's features; it maps (texts, features) to a score for each text.
"""

import inspect
from collections.abc import Callable
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ablation.config.own_code import OwnFunction, parse_own
from ablation.config.schema import ModelConfig
from ablation.core.errors import UsageError
from ablation.encoders.packing import Packing
from ablation.training.own_functions import explain, load_function

#: A pooling of one's own, see above.
OwnPooling = Callable[[Tensor, Tensor], Tensor]
#: The lengths of the texts that a pooling is tried on.
_TRIAL_LENGTHS: Final = (5, 1, 3)
#: The largest change of a text's vector by its batch that rounding can explain.
_LARGEST_STRAY: Final = 1e-4


class OwnHead(nn.Module):
    """A head of one's own, with a bias so that training need not first move to the labels' mean.

    `weight` does not train: it takes a trained model to the corpus's own scale.
    """

    def __init__(self, module: nn.Module, label_mean: float) -> None:
        super().__init__()
        self.module = module
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)
        self.bias = nn.Parameter(torch.full((1,), label_mean))

    def forward(self, sentence: Float[Tensor, "batch features"]) -> Float[Tensor, "batch 1"]:
        """Return a score for each text."""
        score: Tensor = self.module(sentence)
        return score.view(len(sentence), 1) * self.weight + self.bias


def make_pooling(name: str, hidden: int, seed: int) -> OwnPooling:
    """Return the pooling of a pinned name; its initial weights are drawn with `seed`.

    Raises:
        UsageError: It can't be loaded or made.
    """
    function = load_function(name)
    if inspect.isclass(function):
        return _make(name, "model.pooling", hidden, seed)
    pooling: OwnPooling = function
    return pooling


def make_head(name: str, features: int, label_mean: float, seed: int) -> OwnHead:
    """Return the head of a pinned name; its initial weights are drawn with `seed`.

    Raises:
        UsageError: It can't be loaded or made.
    """
    return OwnHead(_make(name, "model.head", features, seed), label_mean)


def features_of(pooling: OwnPooling, hidden: int) -> int:
    """Return the number of features of a pooling's sentence vectors."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        pooled = pooling(torch.zeros(2, 3, hidden), torch.ones(2, 3, dtype=torch.bool))
    return int(pooled.shape[-1])


def on_grid(
    hidden: Float[Tensor, "tokens hidden"], packing: Packing
) -> Float[Tensor, "batch width hidden"]:
    """Pad packed hidden states with zeros to the longest text."""
    texts, width = len(packing.lengths), packing.width
    grid = hidden.new_zeros(texts * width, hidden.shape[-1]).index_copy(0, packing.slot, hidden)
    return grid.view(texts, width, hidden.shape[-1])


def try_own_parts(config: ModelConfig, hidden: int) -> None:
    """Try the pooling and the head on a batch: shape, finite values and gradients, no padding.

    Raises:
        UsageError: One of them can't be used, in one line.
    """
    pooling = parse_own(config.pooling)
    generator = torch.Generator().manual_seed(0)
    features = hidden
    if pooling is not None:
        texts, longest = len(_TRIAL_LENGTHS), max(_TRIAL_LENGTHS)
        states = torch.randn(texts, longest, hidden, generator=generator)
        mask = torch.arange(longest) < torch.tensor(_TRIAL_LENGTHS)[:, None]
        features = _try_pooling(config.pooling, pooling, states * mask[..., None], mask)
    if (head := parse_own(config.head)) is not None:
        sentence = torch.randn(len(_TRIAL_LENGTHS), features, generator=generator)
        _try_head(config.head, head, sentence)


def _try_pooling(name: str, own: OwnFunction, states: Tensor, mask: Tensor) -> int:
    setting = f"model.pooling = {name!r}"
    pooling = make_pooling(name, states.shape[-1], seed=0)
    if isinstance(pooling, nn.Module):
        _require_plain_state(setting, pooling.eval())
    states = states.requires_grad_()
    pooled = _call(setting, own, pooling, states, mask)
    is_matrix = isinstance(pooled, Tensor) and pooled.ndim == 2 and len(pooled) == len(states)
    if not is_matrix or pooled.shape[-1] == 0:
        raise UsageError(f"{setting}: returned {_shape(pooled)}, not ({len(states)}, features)")
    _require_gradient(setting, pooled, states, "hidden states")
    with torch.no_grad():
        for i, length in enumerate(_TRIAL_LENGTHS):
            one = (slice(i, i + 1), slice(length))
            alone = _call(setting, own, pooling, states[one], mask[one])
            if not torch.allclose(alone[0], pooled[i], rtol=_LARGEST_STRAY, atol=_LARGEST_STRAY):
                raise UsageError(
                    f"{setting}: a text's vector changes with the longer ones in its batch; leave"
                    " out positions where mask is false, and draw nothing in evaluation mode"
                )
    return int(pooled.shape[-1])


def _try_head(name: str, own: OwnFunction, sentence: Tensor) -> None:
    setting = f"model.head = {name!r}"
    head = make_head(name, sentence.shape[-1], 0.0, seed=0).module.eval()
    _require_plain_state(setting, head)
    sentence = sentence.requires_grad_()
    score = _call(setting, own, head, sentence)
    if not isinstance(score, Tensor) or score.shape not in ((len(sentence),), (len(sentence), 1)):
        raise UsageError(f"{setting}: returned {_shape(score)}, not ({len(sentence)},)")
    _require_gradient(setting, score, sentence, "sentence vectors")


def _make(name: str, setting: str, size: int, seed: int) -> nn.Module:
    own, function = parse_own(name), load_function(name)
    if own is None:
        raise AssertionError(f"{name}: no name of one's own")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = function(size)
    except Exception as error:  # someone's code may raise anything
        reason = explain(error, own)
        raise UsageError(f"{setting} = {name!r}: can't be made with {size}: {reason}") from error
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise UsageError(f"{setting} = {name!r}: is a {kind}, not a torch.nn.Module")
    return module


def _call(setting: str, own: OwnFunction, part: Callable[..., Any], *arguments: Tensor) -> Any:
    try:
        with torch.random.fork_rng(devices=[]):
            return part(*arguments)
    except Exception as error:  # someone's code may raise anything
        raise UsageError(f"{setting}: fails on a batch: {explain(error, own)}") from error


def _require_plain_state(setting: str, module: nn.Module) -> None:
    """Raise UsageError for state that checkpoints and kept weights do not hold."""
    others = [name for name, _ in module.named_buffers()]
    others += [name for name, value in module.named_parameters() if not value.requires_grad]
    if others:
        raise UsageError(
            f"{setting}: keeps {others[0]!r}, which does not train; its state can be parameters"
            " that train only"
        )


def _require_gradient(setting: str, value: Tensor, given: Tensor, what: str) -> None:
    gradient = None
    if value.requires_grad:
        gradient = torch.autograd.grad(value.sum(), given, allow_unused=True)[0]
    if gradient is None:
        raise UsageError(
            f"{setting}: does not depend on the {what}; compute it with torch's functions,"
            " without detach(), item() or numpy"
        )
    if not bool(value.isfinite().all()) or not bool(gradient.isfinite().all()):
        which = "gradient" if bool(value.isfinite().all()) else "value"
        raise UsageError(f"{setting}: its {which} is not finite on a batch")


def _shape(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)[:40]
