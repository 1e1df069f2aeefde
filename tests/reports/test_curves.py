"""Speed, smoothness and collapse of training curves, by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from reports.analysis.collect import StoredRun
from reports.sections import curves
from reports.sections.curves import CLAIMS, Curve, compare, mean_curve, rule, rule_on_collapse
from tests.reports.conftest import Made


def curve(pearson: list[float], variant: str = "mse", seed: int = 0) -> Curve:
    run = StoredRun("id", variant, "dev1", seed, "FINISHED", "", "", {}, {}, "")
    return Curve(run, 10 * np.arange(1, len(pearson) + 1), np.array(pearson))


def test_convergence_is_the_first_step_at_90_percent_of_the_end() -> None:
    assert curve([0.1, 0.5, 0.71, 0.6, 0.75, 0.8]).final == 0.8
    assert curve([0.1, 0.5, 0.71, 0.6, 0.75, 0.8]).steps_to_converge == 50
    assert curve([0.9, 0.2, 0.8]).steps_to_converge == 10
    assert np.isnan(curve([0.3, -0.2]).steps_to_converge)


def test_roughness_is_the_mean_absolute_second_difference() -> None:
    assert curve([0.1, 0.2, 0.3, 0.4]).roughness == pytest.approx(0)
    assert curve([0.0, 1.0, 0.0]).roughness == 2
    assert np.isnan(curve([0.0, 1.0]).roughness)


@pytest.mark.parametrize(
    ("points", "step"),
    [
        ([0.2, 0.4, -0.1, 0.3], 30),
        ([0.2, -0.4, 0.4], None),
        ([0.4, 0.1], None),
        ([0.3, -0.1], None),
        ([], None),
    ],
)
def test_a_collapse_is_below_zero_after_having_learned(
    points: list[float], step: int | None
) -> None:
    assert curve(points).collapse == step


def test_the_mean_is_over_the_steps_that_all_have() -> None:
    mean = mean_curve([curve([0.0, 0.2, 0.4]), curve([0.2, 0.4])])
    assert mean.to_dict() == pytest.approx({10: 0.1, 20: 0.3})


def test_claims_are_ruled_on_by_the_interval_over_seeds() -> None:
    faster = CLAIMS[0]
    slow, fast = [0.1] * 8 + [0.8, 0.8], [0.8] * 10
    both = {
        "mse": {s: curve(slow[: 10 - s] + [0.8] * s, "mse", s) for s in range(3)},
        "epm": {s: curve(fast, "epm", s) for s in range(3)},
    }
    difference = compare(both, faster)
    assert difference.seeds == 3
    assert difference.mean < 0
    assert rule(faster, difference, comparable=True, why_not="")[0] == "supported"
    assert rule(faster, difference, comparable=False, why_not="synthetic")[0] == "not decidable"
    one = {v: {0: by_seed[0]} for v, by_seed in both.items()}
    assert "one seed" in rule(faster, compare(one, faster), comparable=True, why_not="")[1]
    swapped = {"mse": both["epm"], "epm": both["mse"]}
    assert rule(faster, compare(swapped, faster), comparable=True, why_not="")[0] == "not supported"
    assert rule(faster, compare({}, faster), comparable=True, why_not="")[0] == "not decidable"


def test_figure_5s_collapse() -> None:
    falls, stays = [0.4, 0.5, -0.1], [0.4, 0.5, 0.6]
    as_printed = {
        "mse+cl": {s: curve(falls) for s in range(3)},
        "epm+cl": {s: curve(stays) for s in range(3)},
    }
    assert rule_on_collapse(as_printed, comparable=True, why_not="")[0] == "supported"
    neither = {
        "mse+cl": {s: curve(stays) for s in range(3)},
        "epm+cl": {s: curve(stays) for s in range(3)},
    }
    assert rule_on_collapse(neither, comparable=True, why_not="")[0] == "not supported"
    one = {"mse+cl": {0: curve(stays)}, "epm+cl": {0: curve(stays)}}
    assert rule_on_collapse(one, comparable=True, why_not="")[0] == "not decidable"


def test_stored_curves_are_read_unsmoothed(experiment: Callable[..., Made]) -> None:
    points = np.array([0.1, 0.9, -0.3, 0.7])
    found = experiment(
        noise={"mse": 0.5},
        splits=("dev1",),
        seeds=(0,),
        rows=10,
        curves=lambda variant, seed: points,
    ).find()
    assert found.curves["mse"][0].pearson == pytest.approx(points)
    assert curves.table(found.curves).rows[0][-1].text == "seed 0 at step 3"
