"""Estimates grow with the work; costs are measured, and kept under all they depend on."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablation.config.overrides import load_profile, resolve_config
from ablation.config.schema import RunConfig
from ablation.core.errors import UsageError
from ablation.data.splits import Split
from ablation.runs import costs, step_timing
from ablation.runs.costs import Cost, Lengths, cost_class
from ablation.runs.estimate import Estimates, estimate_all, run_seconds
from ablation.runs.request import RunRequest, resolve_run

MEASURED = Cost(train_token_s=2.0, predict_token_s=0.5, memory_bytes=2**30, cache_token_s=0.25)


def config(variant: str = "mse", **optimisation: int) -> RunConfig:
    return resolve_config(
        load_profile("smoke")
        | {f"optimisation.{name}": value for name, value in optimisation.items()},
        variant,
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """Collect the settings that are measured; costs are kept in a folder of the test."""
    asked: list[RunConfig] = []

    def measure(prepared: object, config: RunConfig, split: object) -> Cost:
        asked.append(config)
        return MEASURED

    monkeypatch.setattr(step_timing, "time_steps", measure)
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    return asked


@pytest.fixture
def plan(small_corpus: Path, store_uri: str) -> Any:
    def made(variants: str, anew: bool = False, **more: Any) -> Estimates:
        asked = {
            "data": str(small_corpus),
            "profile": "smoke",
            "splits": ("dev1",),
            "tracking_uri": store_uri,
            **more,
        }
        return estimate_all(
            resolve_run(RunRequest(variants=variants.split(","), **asked)), anew=anew
        )

    return made


def test_seconds_follow_from_the_tokens_of_all_epochs() -> None:
    split = Split("dev1", np.array([0, 2]), np.array([1]), ())
    lengths = Lengths(np.array([10, 20, 30]), np.array([5, 5]))
    assert (
        run_seconds(lengths, config(epochs=3), split, MEASURED)
        == 3 * (2.0 * 40 + 0.5 * 20) + 0.5 * 10
    )
    assert run_seconds(Lengths(lengths.train, None), config(epochs=3), split, MEASURED) == 3 * (
        2.0 * 40 + 0.5 * 20
    )


def test_runs_that_cost_the_same_are_measured_once(plan: Any, measured: list[RunConfig]) -> None:
    found = plan("mse,epm,epm+ft")
    assert [cost_class(c) for c in measured] == [
        cost_class(config("mse")),
        cost_class(config("epm+ft")),
    ]
    assert len(found.seconds) == 3
    assert found.memory_bytes == 2**30


def test_the_first_of_the_runs_with_frozen_layers_bears_computing_their_outputs(
    plan: Any, measured: list[RunConfig]
) -> None:
    found = plan("mse+ft,epm+ft")
    first, second = found.seconds.values()
    assert first - second == pytest.approx(MEASURED.cache_token_s * found.costs[0].lengths.total)
    assert first > second


def test_a_second_plan_measures_nothing_and_says_the_same(
    plan: Any, measured: list[RunConfig]
) -> None:
    first, second = plan("mse,epm+ft"), plan("mse,epm+ft")
    assert len(measured) == 2
    assert (first.from_earlier, second.from_earlier) == (0, 2)
    assert first.seconds == second.seconds
    assert [each.when for each in first.costs] == [each.when for each in second.costs]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", second.oldest)


def test_it_measures_anew_when_told_so(plan: Any, measured: list[RunConfig]) -> None:
    plan("mse")
    assert plan("mse", anew=True).from_earlier == 0
    assert len(measured) == 2


@pytest.mark.parametrize("what", ["settings", "code", "machine", "threads", "encoder"])
def test_what_a_cost_depends_on_makes_it_another(
    plan: Any, measured: list[RunConfig], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    plan("mse")
    more: dict[str, Any] = {}
    if what == "settings":
        more = {"overrides": {"optimisation.batch_size": 8}}
    elif what == "code":
        monkeypatch.setattr("ablation.runs.plan.code_digest", lambda: "other")
    elif what == "machine":
        monkeypatch.setattr(costs, "processor", lambda: "another processor")
    elif what == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
    else:
        monkeypatch.setattr("ablation.runs.plan.encoder_digest", lambda name: "other")
    assert plan("mse", **more).from_earlier == 0
    assert len(measured) == 2


def test_what_costs_nothing_in_time_is_not_part_of_it(plan: Any, measured: list[RunConfig]) -> None:
    once, twice = plan("mse"), plan("mse", overrides={"optimisation.epochs": 4})
    assert len(measured) == 1
    assert sum(twice.seconds.values()) > 1.5 * sum(once.seconds.values())


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"when": "now"}', '{"when": "", "cost": {"a": 1}, "train": [], "test": null}'],
)
def test_a_damaged_file_is_measured_again(
    plan: Any, measured: list[RunConfig], tmp_path: Path, content: str
) -> None:
    plan("mse")
    (file,) = (tmp_path / "state" / "costs").iterdir()
    file.write_text(content)
    assert plan("mse").from_earlier == 0
    assert plan("mse").from_earlier == 1


def test_costs_that_can_not_be_kept_do_not_end_a_plan(
    plan: Any, measured: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "a file"))
    assert plan("mse").from_earlier == plan("mse").from_earlier == 0


def test_more_frozen_layers_than_there_are_stop_it_before_anything_is_measured(
    plan: Any, measured: list[RunConfig]
) -> None:
    with pytest.raises(UsageError, match="layers"):
        plan("mse+ft", overrides={"model.freeze_layers": 9})
    assert not measured
