"""Verdicts of a curve study on Section 4.2, on curves made up to hold or break each claim."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablation.config.overrides import resolve_config
from ablation.data.reference import MINT
from ablation.tracking import names
from ablation.tracking.runs import start_run
from ablation.tracking.store import experiment_id, open_store
from reports.analysis.claims import COLLAPSE, CURVE_CLAIMS
from reports.analysis.curve_study import Condition, Contrast, CurveStudy, find_study
from reports.analysis.replication import Verdict
from reports.analysis.verdicts import Assessment
from reports.build import build, read_inputs
from reports.verify import verify
from tests.reports.conftest import Made

STEPS = np.arange(1, 21)
PRINTED = Contrast("as_printed", 0.2)
#: log10 of |g + h| by |g| for |h| = 0.9 |g| and cosines from -0.95 to -0.982 by seed.
RATIOS = np.log10(np.sqrt(1 + 0.81 - 1.8 * (0.95 + np.arange(9) / 250)))
#: As many as the exact tests need at the level of the claims about curves.
ENOUGH = tuple(range(9))
#: Pearson at each step, the two terms' norms, their cosine: as Section 4.2 has it.
Shape = Callable[[str, int], tuple[np.ndarray, float, float, float]]


def as_claimed(variant: str, seed: int) -> tuple[np.ndarray, float, float, float]:
    """EPM is fast and smooth, CL slows it; MSE + CL collapses with gradients that cancel."""
    slow = 3.0 + seed if "mse" in variant else 2.0 if "cl" in variant else 1.0
    pearson = 0.9 - np.exp(-STEPS / slow)
    if variant.startswith("mse"):
        pearson = pearson + 0.02 * (1 + seed / 10) * (-1.0) ** STEPS
    if variant.startswith("mse+cl"):
        pearson[12 + seed % 8] = -0.2
    norm = 10.0 + seed if "epm" in variant else 1.0 + seed / 10
    return pearson, norm, 0.9 * norm, -0.95 - seed / 250 if "mse" in variant else 0.1


def write_study(
    uri: str,
    shape: Shape = as_claimed,
    *,
    variants: Sequence[str] = ("mse", "epm", "mse+cl", "epm+cl"),
    seeds: Sequence[int] = (0, 1, 2, 3),
    taus: Sequence[float] = (0.2,),
    settings: Mapping[str, object] | None = None,
    synthetic: bool = False,
    name: str = "ablation",
) -> Made:
    """Write a curve study whose runs have the curves and gradients that `shape` gives."""
    store = open_store(uri)
    experiment = experiment_id(store, name)
    tags: dict[str, object] = {
        names.CORPUS: "made-up",
        names.SYNTHETIC: str(synthetic).lower(),
        names.REFERENCE: "none" if synthetic else MINT,
        f"{names.IDENTITY_PART}data": "d" * 40,
        names.COMMIT: "f" * 40,
        names.ENCODER: "tiny",
    }
    study = start_run(store, experiment, "curves", {names.KIND: names.CURVE_STUDY, **tags})
    for tau in taus:
        for variant in variants:
            for seed in seeds:
                key = {
                    names.KIND: names.CURVE,
                    names.VARIANT: variant,
                    names.SPLIT: "dev1",
                    names.SEED: seed,
                    **tags,
                }
                run = start_run(store, experiment, f"{variant} {seed}", key, parent=study)
                run.log_params(
                    resolve_config(
                        {"model.encoder": "tiny", "loss.tau": tau, **(settings or {})}, variant
                    ).flat()
                )
                pearson, a, b, cosine = shape(variant, seed)
                total = np.sqrt(a * a + b * b + 2 * a * b * cosine) if "cl" in variant else a
                gradients = {"regression": a, "sum": total} | (
                    {"contrastive": b, "cosine": cosine} if "cl" in variant else {}
                )
                points = [(s, "train/pearson", p) for s, p in zip(STEPS, pearson, strict=True)]
                points += [(s, f"gradient/{n}", v) for s in STEPS for n, v in gradients.items()]
                run.log_table(names.CURVES, pd.DataFrame(points, columns=["step", "name", "value"]))
                run.end("FINISHED")
    study.end("FINISHED")
    return Made(uri, name, store)


def test_a_row_that_is_none_of_the_figures_is_shown_and_no_claim_is_about_it(
    store_uri: str,
) -> None:
    made = write_study(store_uri, seeds=ENOUGH)
    alone = study_of(made)
    write_study(store_uri, variants=("epm+ft",), seeds=(0,))
    study = study_of(made)
    assert [str(row) for row in study.rows] == ["epm+ft"]
    assert study.curves.keys() == alone.curves.keys()
    assert [a.assessment.verdict for a in study.assessments] == [
        a.assessment.verdict for a in alone.assessments
    ]
    assert len(study.runs) == len(alone.runs) + 1


def study_of(made: Made) -> CurveStudy:
    study = read_inputs(made.request()).curve_study
    assert study is not None
    return study


def assess(study: CurveStudy, claim_id: str) -> Assessment:
    """Return the study's only assessment of a claim."""
    (assessment,) = [a for claim, _, a in study.assessments if claim.id == claim_id]
    return assessment


def verdicts(study: CurveStudy) -> dict[str, Verdict]:
    return {claim.id: assessment.verdict for claim, _, assessment in study.assessments}


@pytest.fixture(scope="module")
def claimed(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> CurveStudy:
    """Write a study that is as Section 4.2 has it."""
    store = shutil.copy(empty_store, tmp_path_factory.mktemp("claimed") / "mlflow.db")
    return study_of(write_study(f"sqlite:///{store}", seeds=ENOUGH))


CLAIM_IDS = (*(claim.id for claim in CURVE_CLAIMS), COLLAPSE.id)


def test_curves_that_are_as_section_42_has_them_support_it(claimed: CurveStudy) -> None:
    assert verdicts(claimed) == dict.fromkeys(CLAIM_IDS, Verdict.REPLICATED)
    assert "MSE + CL 9 of 9, EPM + CL 0 of 9" in assess(claimed, "collapse").reason


def test_numbers_by_hand(claimed: CurveStudy) -> None:
    study = claimed
    shares = RATIOS  # the sum's norm as a share of the regression's
    for claim in ("cancelling", "vanishing"):
        assessment = assess(study, claim)
        interval = assessment.estimate.over_seeds
        assert assessment.estimate.mean == pytest.approx(shares.mean())
        assert assessment.p == pytest.approx(7 * 2 / 2**9)  # all nine on one side, seven claims
        assert min(shares) < interval.low < shares.mean() < interval.high < max(shares)
    first = study.curves[Condition("mse", PRINTED)][0]
    assert first.gradient_cosine == pytest.approx(-0.95)
    assert first.gradient_sum == pytest.approx(np.sqrt(1 + 0.81 - 2 * 0.9 * 0.95))
    assert first.gradient_magnitude == pytest.approx(np.log10(first.gradient_sum))


def test_the_opposite_of_a_claim_is_told(store_uri: str) -> None:
    def swapped(variant: str, seed: int) -> tuple[np.ndarray, float, float, float]:
        other = variant.replace("mse", "x").replace("epm", "mse").replace("x", "epm")
        pearson, a, b, _ = as_claimed(other, seed)
        return pearson, a, b, 0.1 * (-1) ** seed

    study = study_of(write_study(store_uri, swapped, seeds=ENOUGH))
    for claim in ("faster", "collapse"):
        assert assess(study, claim).verdict == Verdict.OPPOSITE
    assert assess(study, "cancelling").verdict == Verdict.SMALLER
    assert "MSE + CL 0 of 9, EPM + CL 9 of 9" in assess(study, "collapse").reason


def test_few_seeds_and_synthetic_data_decide_nothing(store_uri: str) -> None:
    few = study_of(write_study(store_uri, seeds=(0, 1)))
    assert set(verdicts(few).values()) == {Verdict.UNDECIDED}
    made_up = study_of(write_study(store_uri, synthetic=True, name="synthetic"))
    assert set(verdicts(made_up).values()) == {Verdict.NOT_COMPARABLE}


def test_p_values_do_not_depend_on_the_number_of_conditions(store_uri: str) -> None:
    study = study_of(write_study(store_uri, taus=(0.02, 0.2, 2.0)))
    cancelling = [a for a in study.assessments if a.claim.id == "cancelling"]
    assert [a.contrast and a.contrast.tau for a in cancelling] == [0.02, 0.2, 2.0]
    assert [a.assessment.p for a in cancelling] == pytest.approx([7 * 2 / 2**4] * 3)
    assert len([a for a in study.assessments if a.claim.id == "faster"]) == 1


def test_a_missing_side_leaves_a_claim_open(store_uri: str) -> None:
    study = study_of(write_study(store_uri, variants=("mse", "epm")))
    assert verdicts(study).keys() == {"faster", "smoother"}
    alone = study_of(write_study(store_uri, variants=("mse+cl",), name="alone", seeds=ENOUGH))
    assert verdicts(alone) | {"cancelling": None} == dict.fromkeys(CLAIM_IDS, Verdict.MISSING) | {
        "cancelling": None
    }
    assert verdicts(alone)["cancelling"] == Verdict.REPLICATED


def test_other_settings_stand_apart_and_a_newer_run_replaces_an_older(store_uri: str) -> None:
    write_study(store_uri, seeds=(0,), settings={"optimisation.epochs": 3})
    write_study(store_uri, seeds=(0,))
    made = write_study(store_uri, seeds=(0, 1))
    study = study_of(made)
    assert study.others == 4
    assert {len(by_seed) for by_seed in study.curves.values()} == {2}
    assert len({c.run.suite for by_seed in study.curves.values() for c in by_seed.values()}) == 1


def test_an_experiment_of_nothing_but_curves_has_a_report_of_its_own(
    store_uri: str, tmp_path: Path
) -> None:
    made = write_study(store_uri, taus=(0.02, 2.0), seeds=(0, 1, 2))
    built = build(made.request(), tmp_path / "report")
    assert [section.title for section in built.report.sections] == [
        "The study of training curves",
        "Where everything came from",
    ]
    assert {"curve_verdicts", "curve_conditions", "curve_runs", "provenance"} == {
        table.id for table in built.report.tables
    }
    assert {picture.id for picture in built.report.pictures} == {
        "study_figure4",
        "study_figure5",
        "study_gradients",
        "study_cosines",
    }
    assert verify(tmp_path / "report", made.request()) > 50
    runs = made.store.client.search_runs(
        [made.store.client.get_experiment_by_name("ablation").experiment_id]
    )
    (study,) = [run for run in runs if run.data.tags[names.KIND] == names.CURVE_STUDY]
    kept = json.loads(
        Path(
            made.store.client.download_artifacts(study.info.run_id, names.VERDICTS_FILE)
        ).read_text("utf-8")
    )
    assert {v["verdict"] for v in kept["verdicts"]} == {"undecided"}
    assert study.data.metrics["verdict/cancelling as_printed tau 2/mean"] == pytest.approx(
        RATIOS[:3].mean()
    )


@pytest.mark.usefixtures("undrawn")
def test_beside_an_ablation_it_is_a_section_and_in_no_score(
    experiment: Callable[..., Made], store_uri: str, tmp_path: Path
) -> None:
    made = experiment(seeds=(0,), splits=("dev1",))
    alone = build(made.request(), tmp_path / "alone", log=False)
    write_study(store_uri, variants=("mse+cl", "epm+cl"), seeds=(0,))
    both = build(made.request(), tmp_path / "both", log=False)
    assert [s.title for s in both.report.sections if s not in alone.report.sections].count(
        "The study of training curves"
    ) == 1
    tables = {t.id: t for t in both.report.tables}
    assert all(tables[t.id] == t for t in alone.report.tables if t.id != "provenance")
    assert verify(tmp_path / "both", made.request()) > 50


def test_no_curves_no_study(experiment: Callable[..., Made]) -> None:
    assert find_study(experiment(seeds=(0,)).inputs().experiment) is None
