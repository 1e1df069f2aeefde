"""Try the loss of a run on a batch before anything trains."""

import numpy as np
import torch
from jaxtyping import Float, Float32

from ablation.config.own_code import parse_own
from ablation.config.schema import LossConfig
from ablation.core.errors import UsageError, first_line
from ablation.training.losses.regression import regression_terms
from ablation.training.own_functions import explain

#: Texts of the trial batch.
_TEXTS = 32


def try_regression_loss(
    config: LossConfig,
    label: Float[np.ndarray, " rows"],
    weight: Float32[np.ndarray, " rows"] | None = None,
) -> None:
    """Check that the regression loss of a batch is finite and has a finite gradient.

    Args:
        config: The loss.
        label: Labels of training texts, of which the first few make the batch.
        weight: Their weights, if they have any.

    Raises:
        UsageError: The loss can't be loaded or computed, is not a finite scalar, or does not depend
            on the predictions.
    """
    name = f"loss.regression = {config.regression!r}"
    truth = torch.tensor(label[:_TEXTS], dtype=torch.float32)
    weights = None if weight is None else torch.tensor(weight[:_TEXTS], dtype=torch.float32)
    noise = torch.randn(len(truth), generator=torch.Generator().manual_seed(0))
    prediction = (truth.mean() + 0.1 * noise).requires_grad_()
    try:
        with torch.random.fork_rng(devices=[]):
            terms = regression_terms(prediction, truth, config, weights)
            total = torch.stack(list(terms.values())).sum()
            gradient = (
                torch.autograd.grad(total, prediction, allow_unused=True)[0]
                if total.requires_grad
                else None
            )
    except UsageError:
        raise
    except Exception as error:  # a function of one's own may raise anything
        own = parse_own(config.regression)
        plain = f"{type(error).__name__}: {first_line(error)}"
        reason = plain if own is None else explain(error, own)
        raise UsageError(f"{name}: fails on a batch of {len(truth)} texts: {reason}") from error
    if gradient is None:
        raise UsageError(
            f"{name}: does not depend on the predictions; compute it with torch's functions,"
            " without detach(), item() or numpy"
        )
    if not bool(total.isfinite()) or not bool(gradient.isfinite().all()):
        what = "its value" if not bool(total.isfinite()) else "its gradient"
        raise UsageError(f"{name}: {what} is not finite on a batch of {len(truth)} texts")
