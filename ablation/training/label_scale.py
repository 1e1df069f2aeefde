"""Map labels to the scale that a model is trained on, and its predictions back.

EPM weighs a residual by its exponential, so it depends on the unit of the labels: at a quarter of
the scale its gradient is 1.34 times that of MSE on a scale from 0 to 1, 4.08 times on 1 to 5, and
5e9 times on 0 to 100. Labels are therefore trained on the paper's scale unless `label.train_on`
says otherwise. Scores and predictions are on the corpus's own scale.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ablation.config.label_range import OWN, parse_range


@dataclass(frozen=True)
class LabelScale:
    """A linear map between two scales, each given by its lowest and highest value."""

    own: tuple[float, float]
    training: tuple[float, float]

    @property
    def is_identity(self) -> bool:
        return self.own == self.training

    @property
    def factor(self) -> float:
        """The number of units of the training scale in one of the corpus's."""
        return (self.training[1] - self.training[0]) / (self.own[1] - self.own[0])

    def to_training(self, label: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Map labels to the training scale; equal scales change no bit."""
        if self.is_identity:
            return label
        return self.training[0] + (label - self.own[0]) * self.factor

    def to_own(self, prediction: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """Map predictions to the corpus's scale; equal scales change no bit."""
        if self.is_identity:
            return prediction
        return self.own[0] + (prediction.astype(np.float64) - self.training[0]) / self.factor


def label_scale(label_range: tuple[float, float], train_on: str) -> LabelScale:
    """Return the scale for a corpus's range and the setting `label.train_on`."""
    own = (float(label_range[0]), float(label_range[1]))
    return LabelScale(own, own if train_on == OWN else parse_range(train_on))
