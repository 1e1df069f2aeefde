"""Hold estimates against the figures that the paper prints; `replication` has the rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from reports.analysis.estimates import MISSING, NAN, Estimate
from reports.analysis.replication import (
    DEFAULTS,
    ClaimKind,
    Evidence,
    Family,
    Judged,
    Printed,
    Verdict,
    find_leading,
    judge_cell,
    judge_claim,
    rows_for_cell,
    would_decide,
)

NOT_PRINTED: Final = "the paper prints no figure"
NO_RUNS: Final = "no runs with a Pearson on these rows"


@dataclass(frozen=True)
class Assessment:
    """A verdict with the reason in a few words and the numbers that it rests on.

    Attributes:
        verdict: The answer.
        reason: Why, as a clause without a full stop.
        estimate: The measured value; without a mean for a claim of several parts.
        printed: The paper's figure, as a correlation; NaN if it prints none.
        p: The estimate's p times the size of its family; NaN for a cell.
        need: What would decide it, in a few words; empty unless undecided.
        subject: The thing measured: rows such as "test unseen", or a unit such as "steps".
        parts: For a claim, the assessments that all have to hold.
    """

    verdict: Verdict
    reason: str
    estimate: Estimate = MISSING
    printed: float = NAN
    p: float = NAN
    need: str = ""
    subject: str = ""
    parts: tuple["Assessment", ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs that it rests on."""
        ids = (*self.estimate.runs, *(run for part in self.parts for run in part.runs))
        return tuple(dict.fromkeys(ids))


def assess_cell(estimate: Estimate, printed: float, family: Family, obstacle: str) -> Assessment:
    """Compare a cell of Table 3 with the paper's.

    Args:
        estimate: The cell's mean over seeds.
        printed: The paper's figure as a correlation, NaN if the cell is empty.
        family: The cells that share an error rate.
        obstacle: Why the paper's cells can't be reproduced by these runs; empty if they can.
    """
    found = Assessment(Verdict.MISSING, NO_RUNS, estimate, printed)
    evidence, found = _evidence(found, obstacle)
    if evidence is None:
        return found
    judged = judge_cell(evidence, Printed(printed), family)
    rows = rows_for_cell(evidence) if judged.verdict == Verdict.UNDECIDED else None
    need = "" if rows is None else f"about {rows:,} rows, whatever the number of seeds"
    return replace(found, verdict=judged.verdict, reason=judged.why, need=need)


def assess_effect(
    estimate: Estimate,
    printed: float,
    family: Family,
    *,
    kind: ClaimKind = "sign",
    parts: int = 1,
    obstacle: str = "",
) -> Assessment:
    """Compare an effect (a contrast of cells) with the paper's.

    Args:
        estimate: The measured effect.
        printed: The paper's effect as a difference of correlations, NaN if not printed.
        family: The claims that share an error rate, counted before any run.
        kind: Whether its sign or its size is claimed.
        parts: How many effects the claim rests on.
        obstacle: Why the paper's figures do not apply to these data; empty if they do.
    """
    missing = "not all of the runs are there"
    evidence, found = _evidence(
        Assessment(Verdict.MISSING, missing, estimate, printed, family.adjusted(estimate.p)),
        obstacle,
    )
    if evidence is None:
        return found
    judged = judge_claim(evidence, Printed(printed), kind, family, parts=parts)
    need = _need(evidence, judged, printed, kind, parts)
    return replace(found, verdict=judged.verdict, reason=judged.why, need=need)


def assess_claimed_sign(
    estimate: Estimate, family: Family, *, parts: int = 1, obstacle: str = ""
) -> Assessment:
    """Assess the claim that an effect is above zero, of which no figure is printed.

    To decide: if the true effect is the smallest one of interest.

    Args:
        estimate: The measured effect.
        family: The claims that share an error rate, counted before any run.
        parts: How many effects the claim rests on.
        obstacle: Why nothing is judged on these data; empty if it is.
    """
    least = DEFAULTS.smallest_effect
    missing, p = "not all of the runs are there", family.adjusted(estimate.p)
    evidence, found = _evidence(Assessment(Verdict.MISSING, missing, estimate, least, p), obstacle)
    found = replace(found, printed=NAN)
    if evidence is None:
        return found
    judged = judge_claim(evidence, Printed(least, word="claimed"), "sign", family, parts=parts)
    need = _need(evidence, judged, least, "sign", parts)
    return replace(found, verdict=judged.verdict, reason=judged.why, need=need)


def combine_assessments(parts: Sequence[Assessment], all_hold: str) -> Assessment:
    """Return the assessment of a claim whose parts all have to hold.

    The strongest refutation refutes the claim. It is replicated if every part is, with the largest
    of the parts' p values (an intersection-union test, Berger, 1982, Technometrics 24).
    """
    leading = parts[find_leading([part.verdict for part in parts])]
    verdict, reason = leading.verdict, leading.reason
    if verdict == Verdict.REPLICATED:
        reason = all_hold
    if verdict == Verdict.MISSING and any(part.verdict != Verdict.MISSING for part in parts):
        verdict = Verdict.UNDECIDED
    p = float(np.max([part.p for part in parts]))
    return Assessment(verdict, reason, p=p, need=leading.need, parts=tuple(parts))


def points(value: float, *, signed: bool = False) -> str:
    """Write a difference of correlations in points of Pearson times 100."""
    text = f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"
    return f"{text} points".replace("-", "−")


def _evidence(missing: Assessment, obstacle: str) -> tuple[Evidence | None, Assessment]:
    """Return what can be judged, or None and the assessment that says why nothing can."""
    estimate = missing.estimate
    if not estimate.exists:
        return None, missing
    if obstacle:
        return None, replace(missing, verdict=Verdict.NOT_COMPARABLE, reason=obstacle)
    if not np.isfinite(missing.printed) or missing.printed == 0:
        return None, replace(missing, verdict=Verdict.NOT_COMPARABLE, reason=NOT_PRINTED)
    evidence = estimate.evidence
    if evidence is None:
        return None, replace(missing, verdict=Verdict.UNDECIDED, reason=estimate.obstacle)
    return evidence, missing


def _need(evidence: Evidence, judged: Judged, printed: float, kind: ClaimKind, parts: int) -> str:
    if judged.verdict != Verdict.UNDECIDED or evidence.obstacle:
        return ""
    return str(would_decide(evidence, Printed(printed), kind, judged.family, parts=parts))
