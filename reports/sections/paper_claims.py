"""The paper's claims about scores as a table, and what the runs at hand say of each.

A claim is made of effects that all have to hold. Claims about training curves are judged in
`reports.sections.curves`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from reports.analysis import inference as st
from reports.analysis.measures import TEST, Estimate, EvalSubset, Measurements, paper_cell
from reports.analysis.verdicts import SYNTHETIC, Judgement, judge_effect, points

Outcome = Literal["supported", "not supported", "not decidable"]

DEV1: Final = (EvalSubset("dev1"),)
DEV2: Final = (EvalSubset("dev2"),)
SEEN: Final = (EvalSubset(TEST, "seen"), EvalSubset("dev1"))
#: Without test labels, Dev2's held-out languages stand in for the four that were never seen.
UNSEEN: Final = (EvalSubset(TEST, "unseen"), EvalSubset("dev2", "unseen"))


@dataclass(frozen=True)
class Part:
    """An effect that a claim rests on: weights of variants, on the first of `measures` that has a score."""

    weights: Mapping[str, float]
    measures: Sequence[EvalSubset]


def _step(worse: str, better: str, *places: Sequence[EvalSubset]) -> tuple[Part, ...]:
    return tuple(Part({better: 1.0, worse: -1.0}, place) for place in places)


@dataclass(frozen=True)
class Claim:
    text: str
    where: str
    parts: tuple[Part, ...]


#: What the paper says of its Table 3, in our words.
CLAIMS: Final = (
    Claim("EPM beats MSE on both validation sets.", "4.2", _step("mse", "epm", DEV1, DEV2)),
    Claim(
        "EPM gains about two points on seen and seven on unseen languages.",
        "4.2",
        _step("mse", "epm", SEEN, UNSEEN),
    ),
    Claim(
        "CL on top of EPM gains about two points on unseen languages.",
        "4.2",
        _step("epm", "epm+cl", UNSEEN),
    ),
    Claim(
        "CL transfers to unseen languages better than any other single addition.",
        "4.2",
        (*_step("epm", "epm+cl", UNSEEN), *_step("epm+ft", "epm+cl", UNSEEN)),
    ),
    Claim(
        "FT on top of EPM gains about a point on unseen languages.",
        "4.2",
        _step("epm", "epm+ft", UNSEEN),
    ),
    Claim(
        "CL and FT get in each other's way: together they give less than their sum.",
        "4.2",
        (Part({"epm+cl+ft": 1.0, "epm+cl": -1.0, "epm+ft": -1.0, "epm": 1.0}, UNSEEN),),
    ),
    Claim(
        "The ensemble is above the best single models.",
        "4.2",
        (*_step("epm+ft", "ensemble", SEEN), *_step("epm+cl", "ensemble", UNSEEN)),
    ),
    Claim(
        "The ensemble is about seven points (seen) and five (unseen) above the task's baseline.",
        "4.2",
        _step("baseline", "ensemble", SEEN, UNSEEN),
    ),
)


@dataclass(frozen=True)
class Ruling:
    """What the runs say of a claim, in one sentence, with what it rests on."""

    claim: Claim
    outcome: Outcome
    sentence: str
    estimates: tuple[Estimate, ...]


def rule(measured: Measurements, *, comparable: bool) -> list[Ruling]:
    """A ruling for each claim; Holm's correction runs over all parts of all claims."""
    placed = [[_place(measured, part) for part in claim.parts] for claim in CLAIMS]
    estimates = [
        [measured.contrast(p.weights, m) for p, m in zip(c.parts, ms, strict=True)]
        for c, ms in zip(CLAIMS, placed, strict=True)
    ]
    adjusted = iter(st.holm([e.p for each in estimates for e in each]))
    rulings = []
    for claim, measures, found in zip(CLAIMS, placed, estimates, strict=True):
        judged = [
            _judge(part, measure, estimate, next(adjusted), comparable=comparable)
            for part, measure, estimate in zip(claim.parts, measures, found, strict=True)
        ]
        rulings.append(_ruling(claim, measures, found, judged, comparable=comparable))
    return rulings


def printed_effect(weights: Mapping[str, float], measure: EvalSubset) -> float:
    """The same contrast of the paper's cells; NaN where one of them is not printed."""
    return float(sum(weight * paper_cell(variant, measure) for variant, weight in weights.items()))


def _judge(
    part: Part, measure: EvalSubset, estimate: Estimate, p: float, *, comparable: bool
) -> Judgement:
    """Against the paper's figure; development rows that stand in for the test rows refute nothing."""
    judged = judge_effect(
        estimate, printed_effect(part.weights, part.measures[0]), p, comparable=comparable
    )
    stands_in = part.measures[0].place == TEST and measure.place != TEST
    if judged.verdict == "not reproduced" and stands_in:
        return Judgement(
            "underpowered",
            f"{measure} only stands in for {part.measures[0]}, on which nothing was scored",
        )
    return judged


def _place(measured: Measurements, part: Part) -> EvalSubset:
    """The first measure on which all the variants have a score; the first if none has."""
    named = [_named(measured, measure) for measure in part.measures]
    return next((m for m in named if measured.contrast(part.weights, m).exists), named[0])


def _named(measured: Measurements, measure: EvalSubset) -> EvalSubset:
    """`dev2` stands for a Dev2 whose held-out languages were named, where there is no other."""
    splits = [split for split in measured.group.splits if split.split(":")[0] == measure.place]
    return (
        measure
        if measure.place in (TEST, *splits) or not splits
        else replace(measure, place=splits[0])
    )


def _ruling(
    claim: Claim,
    measures: Sequence[EvalSubset],
    found: Sequence[Estimate],
    judged: Sequence[Judgement],
    *,
    comparable: bool,
) -> Ruling:
    said = "; ".join(_measured(m, e) for m, e in zip(measures, found, strict=True) if e.exists)
    verdicts = [judgement.verdict for judgement in judged]
    outcome: Outcome
    if not comparable:
        outcome, why = "not decidable", SYNTHETIC
    elif "not reproduced" in verdicts:
        outcome, why = "not supported", next(j.why for j in judged if j.verdict == "not reproduced")
    elif all(verdict == "reproduced" for verdict in verdicts):
        outcome, why = "supported", "every effect it rests on is on the paper's side of zero"
    else:
        open_ = next(j for j in judged if j.verdict != "reproduced")
        outcome, why = "not decidable", open_.why
    absent = [str(m) for m, e in zip(measures, found, strict=True) if not e.exists]
    if absent and comparable:
        why += f" (nothing on {' and '.join(dict.fromkeys(absent))})"
    start = {
        "supported": "Supported",
        "not supported": "Not supported",
        "not decidable": "Not decidable with these runs",
    }[outcome]
    return Ruling(
        claim, outcome, f"{start}: {why}." + (f" Measured: {said}." if said else ""), tuple(found)
    )


def _measured(measure: EvalSubset, estimate: Estimate) -> str:
    interval = estimate.interval
    over = "rows and seeds" if np.isfinite(estimate.both.p) else "rows"
    span = (
        f" (95% over {over}: {100 * interval.low:+.2f} to {100 * interval.high:+.2f})"
        if np.isfinite(interval.low)
        else ""
    )
    return f"{points(estimate.mean, signed=True)} on {measure}{span}".replace("-", "−")
