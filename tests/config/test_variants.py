"""The table of variants reads like the paper's Table 3."""

import pytest

from ablation.config.variants import GROUPS, VARIANTS, select_variants
from ablation.core.errors import UsageError

TABLE_3 = {
    "mse": (68.66, 69.13, 67.26, 37.39),
    "epm": (68.86, 70.47, 69.61, 44.85),
    "epm+cl": (69.15, 71.36, 70.02, 46.86),
    "epm+ft": (68.98, 70.22, 70.04, 45.98),
    "epm+cl+ft": (68.59, 69.63, 69.81, 45.14),
    "baseline": (None, None, 65.33, 41.25),
    "ensemble": (None, None, 72.00, 46.92),
}


@pytest.mark.parametrize("name", TABLE_3)
def test_the_papers_cells_are_those_of_table_3(name: str) -> None:
    cells = VARIANTS[name].paper
    assert cells is not None
    assert (cells.dev1, cells.dev2, cells.seen, cells.unseen) == TABLE_3[name]


def test_every_variant_asks_a_question_and_no_two_make_the_same_changes() -> None:
    assert all(variant.question.endswith("?") for variant in VARIANTS.values())
    changes = [tuple(sorted(v.changes.items())) for v in VARIANTS.values() if not v.combines_runs]
    assert len(set(changes)) == len(changes)


def test_every_group_consists_of_variants() -> None:
    for members in GROUPS.values():
        assert set(members) <= set(VARIANTS)


@pytest.mark.parametrize(
    ("names", "variants"),
    [
        (["table3"], ("mse", "epm", "epm+cl", "epm+ft", "epm+cl+ft", "ensemble")),
        (["epm", "mse"], ("mse", "epm")),
        (["figure5", "mse+cl"], ("epm+cl", "mse+cl")),
        (["epm+cl(attract)"], ("epm+cl(attract)",)),
    ],
)
def test_names_and_groups_are_put_in_the_tables_order(
    names: list[str], variants: tuple[str, ...]
) -> None:
    assert select_variants(names) == variants


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no variants given"),
        (["emp"], "did you mean 'epm'"),
        (["zzzz"], "known are table3"),
        (["ensemble"], "name some of those"),
    ],
)
def test_what_is_no_variant_is_explained(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select_variants(names)
