"""Search spaces: shipped ones, a user's own, and the messages on invalid ones."""

from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablation.config.overrides import load_profile
from ablation.core.errors import UsageError
from ablation.runs.precision import resolve_precision
from studies.space import (
    SHIPPED,
    Bounds,
    Space,
    check,
    configure,
    for_variant,
    grid,
    load_space,
    suggest,
    variants_of,
)

LAYERS = 6


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_spaces_fit_the_settings_and_are_sampled_within_their_bounds(name: str) -> None:
    whole = load_space(name)
    overrides = resolve_precision(load_profile("demo"))
    assert whole.question.endswith("?")
    for space in [for_variant(whole, v) for v in variants_of(whole)] or [whole]:
        check(space, overrides, LAYERS)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(20):
            params = suggest(study.ask(), space, LAYERS)
            flat = configure(space, overrides, params).flat()
            assert all(flat[field] == value for field, value in params.items())


def test_a_space_of_variants_is_searched_for_each_of_them() -> None:
    whole = load_space("variants")
    assert variants_of(whole) == ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")
    assert for_variant(whole, "epm").variant == "epm"
    assert list(for_variant(whole, "epm").fields) == [
        "optimisation.lr_encoder",
        "optimisation.lr_head",
    ]
    assert variants_of(load_space("tau")) == ()


def test_depth_goes_up_to_the_encoders_layers() -> None:
    assert grid(load_space("freeze"), LAYERS, 10) == {"model.freeze_layers": [0, 1, 2, 3, 4, 5, 6]}
    assert grid(load_space("freeze"), 24, 5)["model.freeze_layers"][-1] == 24


def test_a_log_scale_is_divided_evenly() -> None:
    values = grid(load_space("tau"), LAYERS, 3)["loss.tau"]
    assert values == pytest.approx([0.02, 0.2, 2.0])


@given(
    low=st.floats(1e-9, 1e3),
    width=st.floats(1e-9, 1e3),
    points=st.integers(2, 40),
    log=st.booleans(),
)
def test_every_point_of_a_grid_lies_within_the_bounds(
    low: float, width: float, points: int, log: bool
) -> None:
    space = Space(question="?", fields={"loss.tau": Bounds(low=low, high=low + width, log=log)})
    distribution = space.fields["loss.tau"].distribution("loss.tau", LAYERS)
    for value in grid(space, LAYERS, points)["loss.tau"]:
        assert distribution._contains(distribution.to_internal_repr(value))


def test_choices_and_steps(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'question = "?"\n[fields."model.pooling"]\nchoices = ["cls", "mean"]\n'
        '[fields."optimisation.batch_size"]\nlow = 16\nhigh = 64\nstep = 16\n'
    )
    space = load_space(str(file))
    check(space, {}, LAYERS)
    assert grid(space, LAYERS, 9) == {
        "model.pooling": ["cls", "mean"],
        "optimisation.batch_size": [16, 32, 48, 64],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'question = "?"\n[fields."loss.tua"]\nlow = 0.1\nhigh = 1.0',
            "unknown field 'loss.tua': did you mean 'loss.tau'?",
        ),
        ('question = "?"\n[fields."loss.tau"]\nlow = 1.0\nhigh = 0.1', "low is above high"),
        ('question = "?"\n[fields."loss.tau"]\nlow = 0.1', "give choices, or low and high"),
        (
            'question = "?"\n[fields."loss.tau"]\nlow = 0.0\nhigh = 1.0\nlog = true',
            "a log scale starts above 0",
        ),
        (
            'question = "?"\nvariant = "emp"\n[fields."loss.tau"]\nlow = 0.1\nhigh = 1.0',
            "unknown variant 'emp': did you mean 'epm'",
        ),
        (
            'question = "?"\n[fields.variant]\nchoices = ["emp"]',
            "unknown variant 'emp': did you mean 'epm'",
        ),
        (
            'question = "?"\n[fields.variant]\nchoices = ["ensemble"]',
            "variant 'ensemble' combines other runs",
        ),
        (
            'question = "?"\n[fields.variant]\nchoices = ["mse"]',
            "beside variant, name a field to tune",
        ),
        ('question = "?"\n[fields]', "at least 1 item"),
        ("fields = 3", "question"),
        ("a = [", "not TOML"),
    ],
)
def test_an_invalid_space_is_explained(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "invalid.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message.replace("?", r"\?").replace("(", r"\(")):
        load_space(str(file))


@pytest.mark.parametrize(
    ("field", "bounds", "message"),
    [
        ("optimisation.batch_size", "low = 4\nhigh = 16\nstep = 0.5", "whole numbers, not step"),
        ("optimisation.batch_size", "low = 4\nhigh = 14\nstep = 2.5", "whole numbers, not step"),
        ("optimisation.batch_size", "low = 4.5\nhigh = 16", "whole numbers, not low = 4.5"),
        ("optimisation.batch_size", "low = 4\nhigh = 16\nstep = inf", "step: give a number"),
        ("optimisation.batch_size", "low = 4\nhigh = 16\nstep = 0", "step must be above 0"),
        ("optimisation.batch_size", "low = 4\nhigh = 16\nstep = 5", "steps of 5 end at 14"),
        ("optimisation.batch_size", "low = true\nhigh = 16", "low: give a number"),
        ("optimisation.batch_size", "low = 1\nhigh = 'layer'", "high: give .*, or 'layers'"),
        ("loss.tau", "low = 0.1\nhigh = nan", "high: give a number"),
        ("loss.tau", "low = -inf\nhigh = 1.0", "low: give a number"),
        ("loss.tau", "low = 0.1\nhigh = 'layers'", "'layers' is for whole numbers"),
        ("loss.tau", "low = 0.1\nhigh = 1.0\nlog = true\nstep = 0.1", "exclude each other"),
        ("loss.tau", "low = 0.1\nhigh = 1.0\nlogs = true", "unknown key .*: did you mean 'log'"),
        ("loss.tau", "choices = [0.1, 0.1]", "the same choice is given twice"),
        ("loss.tau", "choices = [0.1]\nlow = 0.1", "give choices, or low and high"),
        ("loss.tau", "choices = [0.1]\nlog = true", "not with choices"),
        ("model.pooling", "low = 0\nhigh = 1", "takes no numbers: give choices"),
    ],
)
def test_bounds_that_would_be_read_otherwise_than_written_are_refused(
    field: str, bounds: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "invalid.toml"
    file.write_text(f'question = "?"\n[fields."{field}"]\n{bounds}')
    with pytest.raises(UsageError, match=message):
        load_space(str(file))


def test_whole_numbers_bound_a_field_of_other_numbers(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('question = "?"\n[fields."optimisation.warmup"]\nlow = 0\nhigh = 1')
    space = load_space(str(file))
    assert grid(space, LAYERS, 3) == {"optimisation.warmup": [0.0, 0.5, 1.0]}
    drawn = suggest(optuna.create_study().ask(), space, LAYERS)["optimisation.warmup"]
    assert isinstance(drawn, float)


def test_a_range_above_the_encoders_layers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text('question = "?"\n[fields."model.layers"]\nlow = 5\nhigh = "layers"')
    space = load_space(str(file))
    check(space, {}, 5)
    with pytest.raises(UsageError, match=r"model\.layers: low = 5 is above high = 4"):
        check(space, {}, 4)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'freeze'"):
        load_space("freze")


def test_bounds_are_checked_against_the_settings_before_any_trial(tmp_path: Path) -> None:
    file = tmp_path / "wide.toml"
    file.write_text('question = "?"\n[fields."model.dropout"]\nlow = 0.0\nhigh = 1.5')
    with pytest.raises(UsageError, match=r"model.dropout = 1.5"):
        check(load_space(str(file)), {}, LAYERS)


def test_a_field_that_the_variant_decides_can_not_be_searched(tmp_path: Path) -> None:
    file = tmp_path / "vain.toml"
    file.write_text(
        'question = "?"\nvariant = "epm"\n[fields."loss.regression"]\nchoices = ["mse", "epm"]'
    )
    with pytest.raises(UsageError, match="the variant 'epm' decides this itself"):
        check(load_space(str(file)), {}, LAYERS)
