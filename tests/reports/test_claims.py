"""The table of the paper's claims, and what made-up runs say of them."""

from collections.abc import Callable

import numpy as np
import pytest

from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from reports.analysis.claim_verdicts import assess_score_claims
from reports.analysis.claims import CLAIMS, SCORE_CLAIMS, ScoreClaim, find_claim
from reports.analysis.curves import Curve
from reports.analysis.printed import printed_effect
from reports.analysis.replication import Verdict
from reports.analysis.subsets import TEST, EvalSubset
from reports.analysis.verdicts import Assessment
from tests.reports.conftest import Made

SEEN, UNSEEN = EvalSubset(TEST, "seen"), EvalSubset(TEST, "unseen")
DEV1, DEV2 = EvalSubset("dev1"), EvalSubset("dev2")


def assess(made: Made) -> dict[str, Assessment]:
    return assess_score_claims(made.inputs().measurements, "")


def test_each_claim_contrasts_the_variants_that_the_paper_names() -> None:
    """Each effect as better, worse and the paper's difference in points, read off Table 3."""

    def difference(
        better: str, worse: str, subset: EvalSubset, points: float
    ) -> tuple[object, ...]:
        return ({better: 1.0, worse: -1.0}, subset, points)

    interaction = {"epm+cl+ft": 1.0, "epm+cl": -1.0, "epm+ft": -1.0, "epm": 1.0}
    expected = {
        "epm-beats-mse": [
            difference("epm", "mse", DEV1, 0.20),
            difference("epm", "mse", DEV2, 1.34),
        ],
        "epm-on-test": [
            difference("epm", "mse", SEEN, 2.35),
            difference("epm", "mse", UNSEEN, 7.46),
        ],
        "cl-on-unseen": [difference("epm+cl", "epm", UNSEEN, 2.01)],
        "cl-best-on-unseen": [
            difference("epm+cl", "epm", UNSEEN, 2.01),
            difference("epm+cl", "epm+ft", UNSEEN, 0.88),
        ],
        "ft-on-unseen": [difference("epm+ft", "epm", UNSEEN, 1.13)],
        "cl-against-ft": [(interaction, UNSEEN, -2.85)],
        "ensemble-best": [
            difference("ensemble", "mse", SEEN, 4.74),
            difference("ensemble", "mse", UNSEEN, 9.53),
            difference("ensemble", "epm", SEEN, 2.39),
            difference("ensemble", "epm", UNSEEN, 2.07),
            difference("ensemble", "epm+cl", SEEN, 1.98),
            difference("ensemble", "epm+cl", UNSEEN, 0.06),
            difference("ensemble", "epm+ft", SEEN, 1.96),
            difference("ensemble", "epm+ft", UNSEEN, 0.94),
            difference("ensemble", "epm+cl+ft", SEEN, 2.19),
            difference("ensemble", "epm+cl+ft", UNSEEN, 1.78),
        ],
        "ensemble-over-baseline": [
            difference("ensemble", "baseline", SEEN, 6.67),
            difference("ensemble", "baseline", UNSEEN, 5.67),
        ],
    }
    claims = {
        claim.id: [
            (
                dict(effect.weights),
                effect.subsets[0],
                round(100 * printed_effect(effect.weights, effect.subsets[0]), 2),
            )
            for effect in claim.effects
        ]
        for claim in SCORE_CLAIMS
    }
    assert claims == expected


def test_claims_about_curves_contrast_known_variants_by_quantities_of_a_curve() -> None:
    for claim in CLAIMS.values():
        if not isinstance(claim, ScoreClaim):
            assert set(claim.variants) <= VARIANTS.keys()
            assert hasattr(Curve, getattr(claim, "quantity", "collapse"))


def test_ids_are_unique_and_an_unknown_one_is_answered_with_the_nearest() -> None:
    assert all(find_claim(claim_id).id == claim_id for claim_id in CLAIMS)
    with pytest.raises(UsageError, match="did you mean 'smoother'"):
        find_claim("smother")


def test_claims_are_assessed_on_their_own_effects(table_3: Made) -> None:
    """EPM is better in these runs, CL does nothing, and no baseline was trained."""
    assessments = assess(table_3)
    assert assessments["cl-on-unseen"].verdict == Verdict.UNDECIDED
    assert assessments["ensemble-over-baseline"].verdict == Verdict.MISSING
    measurements = table_3.inputs().measurements
    for claim in SCORE_CLAIMS:
        parts = assessments[claim.id].parts
        assert [part.subject for part in parts] == [str(e.subsets[0]) for e in claim.effects]
        for part, effect in zip(parts, claim.effects, strict=True):
            estimate = measurements.contrast(effect.weights, effect.subsets[0])
            assert part.estimate.mean == pytest.approx(estimate.mean, nan_ok=True)
            assert set(part.runs) == set(estimate.runs)


def test_a_claim_that_the_rows_and_seeds_show_is_replicated(
    experiment: Callable[..., Made],
) -> None:
    noise = {"mse": 1.2, "epm": 0.3}
    assessment = assess(experiment(noise=noise, seeds=range(5), rows=200))["epm-beats-mse"]
    assert assessment.verdict == Verdict.REPLICATED
    assert assessment.p == max(part.p for part in assessment.parts) < 0.05


class TestWithoutTestLabels:
    def test_dev2s_held_out_languages_stand_in(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={"epm": 0.6, "epm+cl": 0.5}, labelled=False, rows=30)
        (part,) = assess(made)["cl-on-unseen"].parts
        assert part.subject == "Dev2 unseen"
        assert part.printed == pytest.approx(0.0201)  # the claim's own figure

    def test_of_a_dev2_with_named_languages_too(self, experiment: Callable[..., Made]) -> None:
        made = experiment(
            noise={"epm": 0.6, "epm+cl": 0.5}, labelled=False, rows=30, splits=("dev2:it+zh",)
        )
        (part,) = assess(made)["cl-on-unseen"].parts
        assert part.subject == "Dev2:it+zh unseen"

    def test_what_stands_in_refutes_nothing(self, experiment: Callable[..., Made]) -> None:
        """CL does harm on Dev2's unseen languages; the claim is about the test rows' unseen."""
        made = experiment(noise={"epm": 0.2, "epm+cl": 2.0}, labelled=False, rows=60)
        assessment = assess(made)["cl-on-unseen"]
        assert assessment.parts[0].estimate.interval.high < 0
        assert assessment.verdict == Verdict.UNDECIDED


def test_one_seed_decides_nothing(experiment: Callable[..., Made]) -> None:
    made = experiment(noise={"mse": 2.0, "epm": 0.1}, seeds=(0,), rows=30)
    assessments = assess(made)
    assert np.isfinite(assessments["epm-beats-mse"].parts[0].estimate.mean)
    assert {a.verdict for a in assessments.values()} <= {Verdict.UNDECIDED, Verdict.MISSING}
