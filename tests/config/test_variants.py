"""The table of variants reads like the paper's Table 3."""

from pathlib import Path

import pytest

from ablation.config.schema import FIELDS
from ablation.config.variant_files import parse_table
from ablation.config.variant_table import PrintedCells
from ablation.config.variants import (
    GROUPS,
    READING_ROWS,
    TABLE_3,
    VARIANTS,
    load_table,
    read_selection,
)
from ablation.core.errors import UsageError

PRINTED = {
    "mse": (68.66, 69.13, 67.26, 37.39),
    "epm": (68.86, 70.47, 69.61, 44.85),
    "epm+cl": (69.15, 71.36, 70.02, 46.86),
    "epm+ft": (68.98, 70.22, 70.04, 45.98),
    "epm+cl+ft": (68.59, 69.63, 69.81, 45.14),
    "baseline": (None, None, 65.33, 41.25),
    "ensemble": (None, None, 72.00, 46.92),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_papers_cells_are_those_of_table_3(name: str) -> None:
    cells = VARIANTS[name].printed
    assert cells is not None
    assert (cells.dev1, cells.dev2, cells.seen, cells.unseen) == PRINTED[name]


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
    assert TABLE_3.select(names) == variants


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
        TABLE_3.select(names)


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
    changes = TABLE_3.get(name).changes
    assert changes["loss.regression"] == regression
    assert changes["loss.contrastive"] == contrastive
    assert changes["model.frozen_tuning"] is frozen


def test_all_leaves_out_readings_and_rows_with_an_encoder_of_their_own() -> None:
    left_out = set(VARIANTS) - set(GROUPS["all"])
    assert left_out - READING_ROWS.keys() == {"baseline"}
    assert set(READING_ROWS) - left_out == {"epm+cl(attract)"}  # a row of the file


def test_an_unknown_variant_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown variant 'epm\+lc': did you mean 'epm\+cl'"):
        TABLE_3.get("epm+lc")


def test_the_papers_steps_are_declared_by_its_rows() -> None:
    assert set(TABLE_3.steps) == {
        ("mse", "epm"),
        ("epm", "epm+cl"),
        ("epm", "epm+ft"),
        ("epm+cl", "epm+cl+ft"),
        ("epm+ft", "epm+cl+ft"),
        ("epm+cl", "ensemble"),
        ("baseline", "ensemble"),
        ("mse", "mse+cl"),
        ("mse+cl", "epm+cl"),
        ("epm+cl", "epm+cl(attract)"),
    }


def test_the_papers_rows_are_the_cells_of_its_factorial() -> None:
    assert TABLE_3.cells["mse"] == frozenset()
    assert TABLE_3.cells["epm+ft"] == {"EPM", "FT"}
    assert set(GROUPS["factorial"]) == set(TABLE_3.cells)
    assert set(GROUPS["leave-one-out"]) == {"epm+cl+ft", "epm+cl", "epm+ft", "mse+cl+ft"}
    assert set(GROUPS["add-one-in"]) == {"mse", "epm", "mse+cl", "mse+ft"}


BASE = """
[base]
title = "Plain"
question = "What does plain fine-tuning reach?"
loss = { regression = "mse", contrastive = "none" }
"""
ROW = "[variants.a]\ntitle = 'A'\nquestion = 'Is it better?'\n"


class TestAFileOfVariants:
    def test_settings_are_those_of_its_tables_and_of_the_base(self) -> None:
        text = (
            BASE
            + """
            [variants.cold]
            title = "Cold"
            question = "Is a low temperature better?"
            compared_with = ["base"]
            loss = { tau = 0.01, self_pairs = false, contrastive = "attract" }
            optimisation = { epochs = 3 }
            printed = { seen = 70.5 }
        """
        )
        table = parse_table(text, "own.toml")
        assert list(table.variants) == ["base", "cold"]
        assert table.variants["cold"].changes == {
            "loss.regression": "mse",
            "loss.contrastive": "attract",
            "loss.tau": 0.01,
            "loss.self_pairs": False,
            "optimisation.epochs": 3,
        }
        assert table.variants["cold"].printed == PrintedCells(seen=70.5)
        assert table.steps == (("base", "cold"),)
        assert table.title == "own"

    def test_components_generate_the_rows_of_each_design(self) -> None:
        text = (
            BASE
            + """
            [components.huber]
            loss = { regression = "huber" }
            [components.cl]
            title = "CL"
            question = "Does CL help?"
            loss = { contrastive = "as_printed" }
            [components.ft]
            model = { frozen_tuning = true }
        """
        )
        table = parse_table(text, "own.toml")
        assert len(table.variants) == 8
        both = table.variants["base+huber+cl"]
        assert both.changes["loss.regression"] == "huber"
        assert both.changes["loss.contrastive"] == "as_printed"
        assert both.title == "+ huber + CL"
        assert set(both.compared_with) == {"base+huber", "base+cl"}
        assert table.variants["base+cl"].question == "Does CL help?"
        assert table.select(["leave-one-out"]) == (
            "base+huber+cl",
            "base+huber+ft",
            "base+cl+ft",
            "base+huber+cl+ft",
        )
        assert table.select(["add-one-in"]) == ("base", "base+huber", "base+cl", "base+ft")
        assert len(table.select(["factorial"])) == 8
        assert table.components == ("huber", "CL", "ft")
        assert table.cells["base+huber+cl"] == {"huber", "CL"}

    def test_a_row_that_makes_a_cells_changes_is_that_cell(self) -> None:
        text = (
            BASE
            + ROW
            + """
            loss = { regression = "huber" }
            printed = { dev1 = 60.0 }
            [components.huber]
            loss = { regression = "huber" }
        """
        )
        table = parse_table(text, "own.toml")
        assert list(table.variants) == ["base", "a"]
        assert table.cells["a"] == {"huber"}

    def test_many_components_have_no_factorial(self) -> None:
        components = "".join(
            f"[components.c{i}]\noptimisation.{field} = {value}\n"
            for i, (field, value) in enumerate(
                [
                    ("epochs", 3),
                    ("batch_size", 8),
                    ("warmup", 0.2),
                    ("weight_decay", 0.0),
                    ("adam_eps", 1e-8),
                    ("max_grad_norm", 2.0),
                    ("lr_layer_decay", 0.9),
                ]
            )
        )
        table = parse_table(BASE + components, "own.toml")
        assert len(table.select(["leave-one-out"])) == 8
        assert len(table.select(["add-one-in"])) == 8
        with pytest.raises(UsageError, match="factorial"):
            table.select(["factorial"])

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[a\n", r"own\.toml: not TOML"),
            ("", "no variant"),
            ("[variants.a]\ntitle = 'A'", r"own\.toml: variants\.a\.question = .*field required"),
            ("[variants.a]\ntitle = 1\nquestion = '?'", r"variants\.a\.title = 1: .*string"),
            (ROW + "los = {}", r"variants\.a\.los: unknown key: did you mean 'loss'"),
            (ROW + "loss.tua = 1", r"unknown field 'loss\.tua': did you mean 'loss\.tau'"),
            (ROW + "loss.tau = -1", r"variants\.a\.loss\.tau = -1: .*greater than 0"),
            (ROW + "loss.regression = 'hubr'", "did you mean 'huber'"),
            (ROW + "data.split_seed = 3", "share their splits"),
            (ROW + "compared_with = ['b']", "unknown variant 'b'"),
            (ROW + "combines_runs = true\nloss.tau = 1.0", "trains nothing"),
            (ROW + "compared_with = ['a']", r"variants\.a\.compared_with: names the row itself"),
            (ROW + "loss = ['epm']", r"variants\.a\.loss = \['epm'\]: give a table of settings"),
            (BASE + "[variants.base]\ntitle = 'A'\nquestion = '?'", "is the name of \\[base\\]"),
            (ROW.replace("variants.a", "variants.'a\u202eb'"), "all of them visible"),
            (ROW.replace("variants.a", f"variants.{'a' * 101}"), "at most 100 characters"),
            (ROW.replace("'A'", f"'{'A' * 81}'"), r"variants\.a\.title: .* at most 80 characters"),
            (
                ROW + "[claims.c]\ntext = 'x'\nbetter = 'a'\nworse = 'a'\non = ['dev1']",
                r"claims\.c: better and worse are one row",
            ),
            ("variant = {}", "variant: unknown key: did you mean 'variants'"),
            ("variants = 1", r"variants: give a table"),
            ("[variants]\na = 1", r"variants\.a = 1: give a table"),
            (ROW + "[groups]\na = ['a']", "'a' is a variant and a group"),
            (ROW + "[groups]\nb = ['c']", r"groups\.b: unknown variant 'c'"),
            (ROW + "[groups]\nb = 'a'", r"groups\.b = 'a': give a list"),
            ("default = ['b']\n" + ROW, "default: unknown variant 'b'"),
            ("[variants.'a,b']\ntitle = 'A'\nquestion = '?'", "has no comma"),
            ("[components.x]\nloss.tau = 1.0\n" + ROW, r"components: need a \[base\]"),
            (BASE + "[components.x]", "has no settings"),
            (
                BASE + "[components.x]\nloss.tau = 1.0\n[components.y]\nloss.tau = 2.0",
                r"components x and y both set loss\.tau",
            ),
            (
                ROW + "[claims.c]\ntext = 'T'\nbetter = 'a'\nworse = 'a'\non = ['test sen']",
                r"unknown column 'test sen': did you mean 'test seen'",
            ),
            (
                ROW + "[claims.c]\ntext = 'T'\nbetter = 'a'\nworse = 'z'\non = ['dev1']",
                r"claims\.c: unknown variant 'z'",
            ),
            (
                ROW
                + "[claims.c]\ntext = 'T'\nbetter = 'a'\nworse = 'a'\non = ['dev1']\n"
                + "kind = 'size'",
                r"claims\.c: .*no printed figure",
            ),
            ("[publication]\nname = 'P'\n" + ROW, r"publication\.corpus"),
        ],
    )
    def test_problems_name_the_file_the_place_and_a_way_out(self, text: str, problem: str) -> None:
        with pytest.raises(UsageError, match=problem):
            parse_table(text, "own.toml")

    def test_all_problems_are_reported_together(self) -> None:
        with pytest.raises(UsageError) as error:
            parse_table("[variants.a]\ntitle = 'A'\n[variants.b]\nquestion = '?'", "own.toml")
        assert len(error.value.problems) == 2

    def test_a_stored_file_is_read_whatever_its_settings_are_called_now(self) -> None:
        text = ROW + "loss.of_another_version = 1"
        table = parse_table(text, "own.toml", checked=False)
        assert table.variants["a"].changes == {"loss.of_another_version": 1}


class TestSelection:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "rows.toml"
        file.write_text(BASE + ROW + "[variants.b]\ntitle = 'B'\nquestion = '?'\n", "utf-8")
        return file

    def test_a_file_alone_stands_for_its_rows(self, file: Path) -> None:
        table, rows = read_selection([file])
        assert rows == ("base", "a", "b")
        assert table.text == file.read_text("utf-8")
        assert not table.is_the_papers

    def test_further_names_are_those_of_its_rows(self, file: Path) -> None:
        assert read_selection([str(file), "b", "base"])[1] == ("base", "b")
        with pytest.raises(UsageError, match="unknown variant 'mse'"):
            read_selection([str(file), "mse"])

    def test_a_file_says_what_it_runs(self, file: Path) -> None:
        file.write_text('default = ["a"]\n' + file.read_text("utf-8"), "utf-8")
        assert read_selection([file])[1] == ("a",)

    def test_without_a_file_names_are_the_papers(self) -> None:
        assert read_selection(["figure5"]) == (TABLE_3, ("epm+cl", "mse+cl"))

    def test_two_files_and_a_missing_one_are_errors(self, file: Path) -> None:
        with pytest.raises(UsageError, match="one file of variants at a time"):
            read_selection([file, file])
        with pytest.raises(UsageError, match=r"none\.toml: can't be read"):
            load_table(file.parent / "none.toml")
