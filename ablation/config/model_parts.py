"""Names of the parts between the encoder and the score: the pooling and the head."""

from typing import Final

from ablation.config.own_code import parse_own, pin
from ablation.core.suggest import did_you_mean

#: Ways to make a sentence vector from a text's last hidden states.
POOLINGS: Final = ("auto", "cls", "mean", "max", "last", "weighted_mean", "mean_sqrt")
#: The head of Eq. 1.
LINEAR: Final = "linear"
#: The form of a name of one's own, for messages.
_OWN: Final = "FILE.py:NAME"


#: The reason why such a model has no exported folder.
NOT_EXPORTABLE: Final = (
    "a model with a pooling or head of one's own can't be exported, since sentence-transformers"
    " does not know it; score texts with `ablation predict RUN_ID`"
)


def has_own_parts(pooling: str, head: str) -> bool:
    """Tell if the pooling or the head is one's own."""
    return parse_own(pooling) is not None or head != LINEAR


def check_pooling(name: str) -> str:
    """Return the name of a pooling; one of one's own is pinned to its source.

    Raises:
        ValueError: There is no such pooling; the message names the nearest one.
    """
    return _check("pooling", name, POOLINGS)


def check_head(name: str) -> str:
    """Return the name of a head; one of one's own is pinned to its source.

    Raises:
        ValueError: There is no such head.
    """
    return _check("head", name, (LINEAR,))


def _check(part: str, name: str, known: tuple[str, ...]) -> str:
    if parse_own(name) is not None:
        return pin(name)
    if name not in known:
        raise ValueError(f"unknown {part}: {did_you_mean(name, known, others=_OWN)}")
    return name
