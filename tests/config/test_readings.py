"""The paper's open readings: each makes the variants that it concerns, and changes one setting."""

import pytest

from ablation.config.overrides import load_profile, resolve_config
from ablation.config.readings import READINGS, combine, readings_of, variant_name
from ablation.config.schema import RunConfig
from ablation.config.variants import GROUPS, READING_ROWS, TABLE_3, VARIANTS


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_is_another_value_than_the_default(name: str) -> None:
    reading = READINGS[name]
    assert RunConfig().flat()[reading.field] != reading.value


@pytest.mark.parametrize(("name", "under"), READING_ROWS.items())
def test_a_variant_under_readings_changes_those_settings_of_its_row(
    name: str, under: tuple[str, tuple[str, ...]]
) -> None:
    row, readings = under
    settings = load_profile("smoke")
    ours, others = resolve_config(settings, row).flat(), resolve_config(settings, name).flat()
    changed = {field: value for field, value in others.items() if ours[field] != value}
    assert changed == {READINGS[r].field: READINGS[r].value for r in readings}
    assert VARIANTS[name].printed is None


def test_readings_concern_the_rows_that_they_make_a_difference_to() -> None:
    assert readings_of(VARIANTS["mse"].changes) == ("constant-rate",)
    assert readings_of(VARIANTS["epm+cl"].changes) == ("attract", "no-self-pairs", "constant-rate")
    assert readings_of(VARIANTS["epm+cl+ft"].changes) == tuple(READINGS)


def test_the_suites_change_one_reading_or_all_combinations() -> None:
    assert len(GROUPS["readings"]) == 5 + 1 + 1 + 3 + 2 + 4
    assert len(GROUPS["readings-all"]) == 2 + 2 + 8 + 4 + 16
    assert "ensemble" not in GROUPS["readings-all"]  # it would choose among all readings
    assert set(GROUPS["readings"]) <= set(GROUPS["readings-all"]) <= VARIANTS.keys()
    assert TABLE_3.select(["readings"])[:5] == ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")


def test_a_name_does_not_depend_on_the_order() -> None:
    assert variant_name("epm+cl", ["no-self-pairs", "attract"]) == "epm+cl(attract+no-self-pairs)"
    assert variant_name("mse", []) == "mse"
    assert combine("ab") == [("a",), ("b",), ("a", "b")]
