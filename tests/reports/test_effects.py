"""Effects of EPM, CL and FT from the cells of a factorial."""

import numpy as np
import pytest

from ablation.config.variants import TABLE_3 as PAPER
from reports.analysis.effects import find_effects

#: Each cell of the factorial: with (1) or without (0) EPM, CL, FT.
CELLS = {
    name: tuple(int(component in cell) for component in PAPER.components)
    for name, cell in PAPER.cells.items()
}

TABLE_3 = ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft")


def test_of_table_3_some_effects_can_be_estimated_and_the_rest_name_their_runs() -> None:
    found = {e.name: e for e in find_effects(TABLE_3)}
    assert found["EPM"].weights == {"epm": 1.0, "mse": -1.0}
    assert found["EPM"].missing == ("mse+cl", "mse+ft", "mse+cl+ft")
    # CL: with EPM, without and with FT; half of each.
    assert found["CL"].weights == {"epm+cl": 0.5, "epm": -0.5, "epm+cl+ft": 0.5, "epm+ft": -0.5}
    assert found["CL × FT"].weights == {
        "epm": 1.0,
        "epm+cl": -1.0,
        "epm+ft": -1.0,
        "epm+cl+ft": 1.0,
    }
    assert found["EPM × CL"].weights == {}
    assert found["EPM × CL"].missing == ("mse+cl", "mse+ft", "mse+cl+ft")
    assert found["EPM × CL × FT"].weights == {}


@pytest.mark.parametrize("present", [TABLE_3, tuple(CELLS), ("mse", "epm", "mse+cl", "epm+cl")])
def test_known_effects_are_recovered(present: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    main, pair, triple = rng.normal(size=3), rng.normal(), rng.normal()
    # Table 3 has no cells to tell the others' interactions from: there they must be 0.
    full = len(present) == 8
    score = {
        name: main @ levels
        + pair * levels[1] * levels[2]
        + (triple * np.prod(levels) if full else 0)
        for name, levels in CELLS.items()
    }
    expected = (
        {"EPM": main[0] + triple / 4, "CL × FT": pair + triple / 2, "EPM × CL × FT": triple}
        if full
        else {"EPM": main[0]}
    )
    if present == TABLE_3:
        expected["CL × FT"] = pair
    for effect in find_effects(present):
        if effect.name in expected:
            assert sum(w * score[v] for v, w in effect.weights.items()) == pytest.approx(
                expected[effect.name]
            )
        assert sum(effect.weights.values()) == pytest.approx(0)
        assert effect.complete == full
