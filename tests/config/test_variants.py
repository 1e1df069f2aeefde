"""The table of variants reads like the paper's Table 3."""

import pytest

from ablation.config.schema import FIELDS
from ablation.config.variants import (
    GROUPS,
    READING_ROWS,
    VARIANTS,
    PaperCells,
    get_variant,
    parse_variant_table,
    select_variants,
)
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


def test_every_change_is_a_setting_and_every_trained_row_sets_the_three_components() -> None:
    for variant in VARIANTS.values():
        assert set(variant.changes) <= set(FIELDS)
        assert variant.combines_runs or set(variant.changes) >= {
            "loss.regression",
            "loss.contrastive",
            "model.frozen_tuning",
        }


@pytest.mark.parametrize(
    ("name", "regression", "contrastive", "frozen"),
    [
        ("mse", "mse", "none", False),
        ("epm", "epm", "none", False),
        ("epm+cl", "epm", "as_printed", False),
        ("epm+ft", "epm", "none", True),
        ("epm+cl+ft", "epm", "as_printed", True),
        ("mse+cl", "mse", "as_printed", False),
        ("mse+ft", "mse", "none", True),
        ("mse+cl+ft", "mse", "as_printed", True),
        ("epm+cl(attract)", "epm", "attract", False),
        ("mse+cl(attract)", "mse", "attract", False),
        ("baseline", "mse", "none", False),
    ],
)
def test_a_variants_name_says_what_it_trains(
    name: str, regression: str, contrastive: str, frozen: bool
) -> None:
    changes = get_variant(name).changes
    assert changes["loss.regression"] == regression
    assert changes["loss.contrastive"] == contrastive
    assert changes["model.frozen_tuning"] is frozen


def test_all_leaves_out_readings_and_rows_with_an_encoder_of_their_own() -> None:
    left_out = set(VARIANTS) - set(GROUPS["all"])
    assert left_out - READING_ROWS.keys() == {"baseline"}
    assert set(READING_ROWS) - left_out == {"epm+cl(attract)"}  # a row of the file


def test_an_unknown_variant_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown variant 'epm\+lc': did you mean 'epm\+cl'"):
        get_variant("epm+lc")


class TestATableOfVariants:
    def test_settings_are_those_of_its_tables(self) -> None:
        text = """
            [cold]
            title = "Cold"
            question = "Is a low temperature better?"
            loss = { tau = 0.01, self_pairs = false }
            optimisation = { epochs = 3 }
            paper = { seen = 70.5 }
        """
        (variant,) = parse_variant_table(text, "own.toml").values()
        assert variant.changes == {
            "loss.tau": 0.01,
            "loss.self_pairs": False,
            "optimisation.epochs": 3,
        }
        assert variant.paper == PaperCells(seen=70.5)
        assert not variant.combines_runs

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[a\n", r"own\.toml: not TOML"),
            ("[a]\ntitle = 'A'", r"own\.toml: a\.question = .*field required"),
            ("[a]\ntitle = 1\nquestion = '?'", r"own\.toml: a\.title = 1: .*string"),
            ("[a]\ntitle = 'A'\nquestion = '?'\nlos = {}", r"own\.toml: a\.los = \{\}: unexpected"),
            ("a = 1", r"own\.toml: a\."),
        ],
    )
    def test_problems_name_the_file_the_variant_and_the_key(self, text: str, problem: str) -> None:
        with pytest.raises(UsageError, match=problem):
            parse_variant_table(text, "own.toml")

    def test_all_problems_are_reported_together(self) -> None:
        with pytest.raises(UsageError) as error:
            parse_variant_table("[a]\ntitle = 'A'\n[b]\nquestion = '?'", "own.toml")
        assert len(error.value.problems) == 2
