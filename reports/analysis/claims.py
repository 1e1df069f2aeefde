"""Table of the paper's claims about scores (Table 3) and training curves (Figures 4 and 5).

A claim about scores rests on effects that all have to hold. A claim about curves says that a
quantity is smaller for one variant than for another. To add a claim, add an entry to `CLAIMS`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ablation.config.variant_table import COLUMNS, VariantTable
from ablation.core.errors import UsageError
from ablation.core.suggest import did_you_mean
from reports.analysis.replication import ClaimKind, Family
from reports.analysis.subsets import TEST, EvalSubset

#: Attributes of `reports.analysis.curves.Curve` that claims are about.
Quantity = Literal["steps_to_converge", "roughness", "gradient_magnitude", "gradient_cancelling"]


@dataclass(frozen=True)
class Effect:
    """An effect that a claim rests on.

    Attributes:
        weights: The contrast: a weight for each variant.
        subsets: Rows that it is about; the first with a score is used, later ones stand in for it.
    """

    weights: Mapping[str, float]
    subsets: tuple[EvalSubset, ...]


@dataclass(frozen=True)
class ScoreClaim:
    """A claim about Table 3, all of whose `effects` have to hold.

    Attributes:
        id: For the command line.
        text: What the paper says.
        where: Its section, table or figure.
        effects: What it rests on.
        kind: Whether the effects' signs are claimed, or their sizes ("about two points").
    """

    id: str
    text: str
    where: str
    effects: tuple[Effect, ...]
    kind: ClaimKind = "sign"


@dataclass(frozen=True)
class CurveClaim:
    """A claim that `quantity` of `smaller` is less than that of `larger`, by `margin` at least.

    Attributes:
        id, text, where: As in `ScoreClaim`.
        quantity: An attribute of `Curve`.
        unit: The quantity's unit, in words.
        smaller, larger: Variants; without `larger` the quantity itself is below -`margin`.
        margin: The least that a reader would call by the claim's word.
    """

    id: str
    text: str
    where: str
    quantity: Quantity
    unit: str
    smaller: str
    larger: str | None = None
    margin: float = 0.0

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.smaller,) if self.larger is None else (self.smaller, self.larger)

    @property
    def needs_gradients(self) -> bool:
        """True if only a curve study, which measures gradients, can answer it."""
        return self.quantity.startswith("gradient")


@dataclass(frozen=True)
class CollapseClaim:
    """A claim that training collapses with one variant and not with another."""

    id: str
    text: str
    where: str
    collapsing: str
    stable: str

    @property
    def variants(self) -> tuple[str, ...]:
        return self.collapsing, self.stable


Claim = ScoreClaim | CurveClaim | CollapseClaim

_DEV1: Final = (EvalSubset("dev1"),)
_DEV2: Final = (EvalSubset("dev2"),)
_SEEN: Final = (EvalSubset(TEST, "seen"), EvalSubset("dev1"))
#: Without test labels, Dev2's held-out languages stand in for the four that were never seen.
_UNSEEN: Final = (EvalSubset(TEST, "unseen"), EvalSubset("dev2", "unseen"))
#: Half or twice, as a power of ten.
FACTOR_OF_TWO: Final = math.log10(2)


def _step(worse: str, better: str, *rows: tuple[EvalSubset, ...]) -> tuple[Effect, ...]:
    """Return the difference of two variants on each of `rows`."""
    return tuple(Effect({better: 1.0, worse: -1.0}, subsets) for subsets in rows)


#: The variants of Table 3 that are one model.
SINGLE_MODELS: Final = ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")

SCORE_CLAIMS: Final = (
    ScoreClaim(
        id="epm-beats-mse",
        text="EPM beats MSE on both validation sets.",
        where="4.2",
        effects=_step("mse", "epm", _DEV1, _DEV2),
    ),
    ScoreClaim(
        id="epm-on-test",
        text="EPM gains about two points on seen and seven on unseen languages.",
        where="4.2",
        effects=_step("mse", "epm", _SEEN, _UNSEEN),
        kind="size",
    ),
    ScoreClaim(
        id="cl-on-unseen",
        text="CL on top of EPM gains about two points on unseen languages.",
        where="4.2",
        effects=_step("epm", "epm+cl", _UNSEEN),
        kind="size",
    ),
    ScoreClaim(
        id="cl-best-on-unseen",
        text="CL transfers to unseen languages better than any other single addition.",
        where="4.2",
        effects=(*_step("epm", "epm+cl", _UNSEEN), *_step("epm+ft", "epm+cl", _UNSEEN)),
    ),
    ScoreClaim(
        id="ft-on-unseen",
        text="FT on top of EPM gains about a point on unseen languages.",
        where="4.2",
        effects=_step("epm", "epm+ft", _UNSEEN),
        kind="size",
    ),
    ScoreClaim(
        id="cl-against-ft",
        text="CL and FT get in each other's way: together they give less than their sum.",
        where="4.2",
        effects=(Effect({"epm+cl+ft": 1.0, "epm+cl": -1.0, "epm+ft": -1.0, "epm": 1.0}, _UNSEEN),),
    ),
    ScoreClaim(
        id="ensemble-best",
        text="The ensemble is above the best single models.",
        where="4.2",
        effects=tuple(
            effect for model in SINGLE_MODELS for effect in _step(model, "ensemble", _SEEN, _UNSEEN)
        ),
    ),
    ScoreClaim(
        id="ensemble-over-baseline",
        text="The ensemble is about seven points (seen) and five (unseen) above the baseline.",
        where="4.2",
        effects=_step("baseline", "ensemble", _SEEN, _UNSEEN),
        kind="size",
    ),
)

CURVE_CLAIMS: Final = (
    CurveClaim(
        id="faster",
        text="EPM converges faster than MSE on the training data.",
        where="4.2, Figure 4",
        quantity="steps_to_converge",
        unit="steps to 90%",
        smaller="epm",
        larger="mse",
    ),
    CurveClaim(
        id="smoother",
        text="EPM's training curve is smoother than MSE's.",
        where="4.2, Figure 4",
        quantity="roughness",
        unit="roughness",
        smaller="epm",
        larger="mse",
    ),
    CurveClaim(
        id="slower",
        text="With CL on top, EPM converges more slowly than alone.",
        where="4.2, Figure 5",
        quantity="steps_to_converge",
        unit="steps to 90%, EPM − (EPM + CL)",
        smaller="epm",
        larger="epm+cl",
    ),
    CurveClaim(
        id="cancelling",
        text="The gradients of MSE and CL add up to a small amount.",
        where="4.2",
        quantity="gradient_cancelling",
        unit="log10 of the sum's norm by the MSE term's own",
        smaller="mse+cl",
        margin=FACTOR_OF_TWO,
    ),
    CurveClaim(
        id="vanishing",
        text="Adding CL makes MSE's gradient vanish.",
        where="4.2",
        quantity="gradient_magnitude",
        unit="log10 of the sum's norm, (MSE + CL) − MSE",
        smaller="mse+cl",
        larger="mse",
        margin=FACTOR_OF_TWO,
    ),
    CurveClaim(
        id="amplified",
        text="EPM's penalty amplifies the gradient of the sum.",
        where="4.2",
        quantity="gradient_magnitude",
        unit="log10 of the sum's norm, (MSE + CL) − (EPM + CL)",
        smaller="mse+cl",
        larger="epm+cl",
        margin=FACTOR_OF_TWO,
    ),
)

COLLAPSE: Final = CollapseClaim(
    id="collapse",
    text="With MSE + CL the training Pearson collapses; with EPM + CL it does not.",
    where="4.2, Figure 5",
    collapsing="mse+cl",
    stable="epm+cl",
)

#: The claims that share an error rate: all that could be made, with or without runs.
SCORE_FAMILY: Final = Family("the paper's claims about scores", len(SCORE_CLAIMS))
CURVE_FAMILY: Final = Family("the paper's claims about training curves", len(CURVE_CLAIMS) + 1)

#: Every claim by its id.
CLAIMS: Final[Mapping[str, Claim]] = {
    claim.id: claim for claim in (*SCORE_CLAIMS, *CURVE_CLAIMS, COLLAPSE)
}


def claims_of(table: VariantTable) -> Mapping[str, Claim]:
    """Return the claims that are made about a table's rows, by id."""
    if table.is_the_papers:
        return CLAIMS
    return {
        claim_id: ScoreClaim(
            claim_id,
            claim.text,
            claim.where,
            _step(claim.worse, claim.better, *((EvalSubset(*COLUMNS[c]),) for c in claim.on)),
            claim.kind,
        )
        for claim_id, claim in table.claims.items()
    }


def score_family(table: VariantTable) -> Family:
    """Return the family of the claims about a table's scores."""
    if table.is_the_papers:
        return SCORE_FAMILY
    return Family(f"the claims about “{table.title}”", max(1, len(table.claims)))


def find_claim(claim_id: str) -> Claim:
    """Return the claim with this id.

    Raises:
        UsageError: There is no such claim; the message names the nearest one.
    """
    try:
        return CLAIMS[claim_id]
    except KeyError:
        hint = did_you_mean(claim_id, CLAIMS)
        raise UsageError(f"unknown claim {claim_id!r}: {hint}") from None
