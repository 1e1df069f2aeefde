"""Settings: Table 4 as the defaults, overrides on top, each problem in one line."""

import contextlib
import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ablation.config.overrides import (
    PROFILES,
    load_profile,
    merge_overrides,
    parse_overrides,
    parse_seeds,
    resolve_config,
)
from ablation.config.schema import ADDED, FIELDS, RunConfig
from ablation.config.tuning_record import Tuning, load_tuning
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError
from ablation.runs.precision import resolve_precision

TABLE_4 = {
    "model.encoder": "FacebookAI/xlm-roberta-large",
    "model.freeze_layers": 3,
    "data.max_tokens": 128,
    "optimisation.batch_size": 64,
    "optimisation.epochs": 11,
    "optimisation.adam_eps": 1e-6,
    "optimisation.weight_decay": 0.1,
    "optimisation.warmup": 0.1,
    "optimisation.max_grad_norm": 1.0,
    "loss.tau": 0.2,
    "optimisation.lr_encoder": 2e-5,
    "optimisation.lr_head": 1e-4,
}


def test_the_profile_paper_is_table_4() -> None:
    flat = resolve_config(load_profile("paper")).flat()
    assert {name: flat[name] for name in TABLE_4} == TABLE_4


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_state_overrides_only(profile: str) -> None:
    defaults = RunConfig().flat()
    for name, value in load_profile(profile).items():
        assert defaults[name] != value, f"{profile}: {name} is the default already"


def test_every_profile_file_is_listed() -> None:
    folder = files("ablation.config") / "profiles"
    names = {entry.name for entry in folder.iterdir() if entry.name.endswith(".toml")}
    assert names == {f"{name}.toml" for name in PROFILES}


def test_the_command_line_beats_the_profile_and_the_variant_beats_both() -> None:
    profile = resolve_precision(load_profile("demo"))
    config = resolve_config(
        {**profile, **parse_overrides(["optimisation.epochs=7", "loss.regression=mse"])}, "epm"
    )
    assert config.optimisation.epochs == 7
    assert config.loss.regression == "epm"
    assert config.model.encoder == "bundled"


def test_no_override_makes_a_row_another_than_its_title_says() -> None:
    trained = [name for name, variant in VARIANTS.items() if not variant.combines_runs]
    for name in trained:
        overridden = {
            "loss.regression": "epm",
            "loss.contrastive": "attract",
            "model.frozen_tuning": True,
        }
        assert resolve_config(overridden, name).digest() == resolve_config({}, name).digest()


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["loss.tau=0.1"], {"loss.tau": 0.1}),
        (
            ["loss.tau = 1e-3 , model.trim_vocabulary=false"],
            {"loss.tau": 1e-3, "model.trim_vocabulary": False},
        ),
        (
            ["model.encoder=intfloat/multilingual-e5-small"],
            {"model.encoder": "intfloat/multilingual-e5-small"},
        ),
        (["model.encoder=a=b"], {"model.encoder": "a=b"}),
        (["model.encoder=/a,b,loss.tau=1"], {"model.encoder": "/a,b", "loss.tau": 1}),
        (['model.prefix="query: "'], {"model.prefix": "query: "}),
        ([], {}),
    ],
)
def test_overrides_are_read_as_numbers_truth_values_or_text(
    texts: list[str], values: dict[str, object]
) -> None:
    assert parse_overrides(texts) == values


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "0x" + "f" * 5000, "-" + "9" * 5000, "[" * 5000, "{a=" * 5000, "0.1\nx = 2"],
)
@pytest.mark.parametrize(
    "field", ["loss.tau", "data.split_seed", "optimisation.epochs", "model.layers"]
)
def test_a_value_that_no_field_can_take_is_explained_in_one_short_line(
    field: str, value: str
) -> None:
    with pytest.raises(UsageError) as error:
        resolve_config(parse_overrides([f"{field}={value}"]))
    (problem,) = error.value.problems
    assert problem.startswith(field)
    assert "\n" not in problem
    assert len(problem) < 300


def test_a_value_that_is_none_of_a_settings_own_is_answered_with_the_nearest() -> None:
    """Values that a profile alone may give are among them."""
    wrong = {"optimisation.precision": "auot", "model.pooling": "men", "loss.weighting": "lsd"}
    with pytest.raises(UsageError) as error:
        resolve_config(wrong)
    for line, meant in zip(error.value.problems, ("mean", "lds", "auto"), strict=True):
        assert line.endswith(f"did you mean {meant!r}?")


def test_an_override_without_a_value_is_explained() -> None:
    with pytest.raises(UsageError, match=r"write FIELD=VALUE, such as loss\.tau=0\.1"):
        parse_overrides(["loss.tau"])


@pytest.mark.parametrize(
    ("variant", "message"),
    [("emp", "unknown variant 'emp': did you mean 'epm'"), ("huber", "known are mse, epm")],
)
def test_an_unknown_variant_is_no_other_variant(variant: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_config({}, variant)


def test_later_sources_win_over_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        "[loss]\ntau = 0.4\n[optimisation]\nepochs = 5\nbatch_size = 32\n"
        "[variant.epm.optimisation]\nepochs = 6\nbatch_size = 16\n"
        "[variant.epm.loss]\nregression = 'mse'\n"
    )
    overrides = merge_overrides(load_profile(str(file)), {"optimisation.batch_size": 8})
    config = resolve_config(overrides, "epm")
    assert config.optimisation.lr_head == RunConfig().optimisation.lr_head  # default
    assert config.loss.tau == 0.4  # profile
    assert config.optimisation.epochs == 6  # the profile's, for this variant
    assert config.optimisation.batch_size == 8  # command line
    assert config.loss.regression == "epm"  # variant


def test_an_integer_of_64_bits_is_a_number_and_a_longer_one_is_text() -> None:
    texts = [f"data.split_seed={2**63 - 1}", f"model.prefix={2**63}"]
    assert parse_overrides(texts) == {
        "data.split_seed": 2**63 - 1,
        "model.prefix": str(2**63),
    }


def test_the_most_seeds_are_a_thousand_in_a_range() -> None:
    assert len(parse_seeds("0-999")) == 1000
    with pytest.raises(UsageError, match="at most 1000 seeds"):
        parse_seeds("0-1000")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as error:
        resolve_config(
            {"loss.tua": 1, "loss.tau": -1, "optimisation.epochs": 0, "model.pooling": "highest"}
        )
    problems = error.value.problems
    assert len(problems) == 4
    assert problems[0] == "unknown field 'loss.tua': did you mean 'loss.tau'?"
    assert problems[1].startswith("model.pooling = 'highest'")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss.tau", 0),
        ("loss.tau", float("inf")),
        ("loss.tau", float("nan")),
        ("loss.tau", "warm"),
        ("optimisation.epochs", 1.5),
        ("optimisation.batch_size", 0),
        ("optimisation.warmup", 1.5),
        ("model.freeze_layers", -1),
        ("model.layers", 0),
        ("model.dropout", 1),
        ("optimisation.lr_encoder", 0),
        ("optimisation.lr_layer_decay", 1.1),
        ("data.max_tokens", 2),
        ("optimisation.epochs", True),
        ("loss.tau", True),
        ("data.split_seed", False),
        ("model.layers", True),
        ("model.dropout", False),
        ("data.split_seed", -1),
        ("model.encoder", ""),
        ("loss.contrastive", "printed"),
        ("optimisation.precision", "float16"),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    for variant in VARIANTS:
        with pytest.raises(UsageError, match=field.replace(".", r"\.")):
            resolve_config({field: value}, variant)


def test_the_digest_is_that_of_the_values_however_they_were_given() -> None:
    assert resolve_config({"loss.tau": 0.2}).digest() == RunConfig().digest()
    assert (
        resolve_config({"optimisation.weight_decay": 0}).digest()
        == resolve_config({"optimisation.weight_decay": 0.0}).digest()
    )
    assert resolve_config({"loss.tau": 0.3}).digest() != RunConfig().digest()


@pytest.mark.parametrize(
    "overrides", [{}, {"loss.tau": 0.3, "model.encoder": "é", "model.layers": 4}]
)
def test_the_digest_is_the_sha_256_of_sorted_json_without_spaces(
    overrides: dict[str, object],
) -> None:
    config = resolve_config(overrides)
    sections: dict[str, dict[str, object]] = {}
    for name, value in sorted(config.flat().items(), reverse=True):
        section, field = name.split(".")
        declared = type(getattr(config, section)).model_fields[field]
        if declared.json_schema_extra == ADDED and value == declared.default:
            continue
        sections.setdefault(section, {})[field] = value
    parts = []
    for section, fields in sorted(sections.items()):
        pairs = ",".join(f"{json.dumps(k)}:{json.dumps(fields[k])}" for k in sorted(fields))
        parts.append(f'"{section}":{{{pairs}}}')
    assert config.digest() == hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()


def test_settings_that_were_added_leave_earlier_runs_their_identity() -> None:
    of_0_1_0 = "b661db29b8ecf1717da3ce420e015e2cf76ff0548dc6543d05a9b1674e88c122"
    assert RunConfig().digest() == of_0_1_0
    added = {"loss.huber_delta": 0.5, "loss.weighting": "lds"}
    assert len({resolve_config({name: v}).digest() for name, v in added.items()} | {of_0_1_0}) == 3


def test_every_field_counts_in_the_digest() -> None:
    others = {
        "data.split_seed": 1,
        "data.max_tokens": 64,
        "model.layers": 2,
        "loss.tau": 0.5,
        "optimisation.log_every": 3,
    }
    assert (
        len(
            {resolve_config({name: value}).digest() for name, value in others.items()}
            | {RunConfig().digest()}
        )
        == 6
    )


def test_a_config_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        RunConfig().loss.tau = 1.0  # type: ignore[misc]


def test_flat_names_every_field_once() -> None:
    assert (
        len(set(FIELDS))
        == len(FIELDS)
        == sum(len(section) for section in RunConfig().model_dump().values())
    )


class TestProfileFiles:
    def test_ones_own_profile_is_a_toml_file(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text("[loss]\ntau = 0.4\n[model]\nencoder = 'bundled'\n")
        assert load_profile(str(file)) == {"loss.tau": 0.4, "model.encoder": "bundled"}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"tau = 1", "put fields into tables"),
            (b"[loss\n", "not TOML"),
            (b"\xff\xfe", "can't be read"),
            (b"[loss]\ntau = " + b"9" * 5000, "not TOML"),
            (b"[loss]\ntau = " + b"[" * 5000, "not TOML"),
        ],
    )
    def test_a_file_that_is_no_profile_is_explained(
        self, content: bytes, message: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "bad.toml"
        file.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            load_profile(str(file))

    @pytest.mark.parametrize("name", ["a" * 300, "~nobody-of-this-name/mine.toml"])
    def test_a_name_that_can_be_no_file_is_explained(self, name: str) -> None:
        with pytest.raises(UsageError, match=r"^profile "):
            load_profile(name)

    def test_an_unknown_name_suggests_the_nearest(self) -> None:
        with pytest.raises(UsageError, match="did you mean 'small'"):
            load_profile("smal")

    def test_an_unknown_field_in_a_profile_is_found(self, tmp_path: Path) -> None:
        file = tmp_path / "bad.toml"
        file.write_text("[optimisation]\nepoch = 3\n[schedule]\nwarmup = 1\n")
        with pytest.raises(UsageError) as error:
            resolve_config(load_profile(str(file)))
        assert len(error.value.problems) == 2
        assert "did you mean 'optimisation.epochs'?" in error.value.problems[0]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0", (0,)), ("0,1,2", (0, 1, 2)), ("0-3", (0, 1, 2, 3)), ("2, 2,0", (2, 0))],
)
def test_seeds_are_lists_and_ranges(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@given(st.text(max_size=30) | st.from_regex(r"[0-9, -]{0,30}", fullmatch=True))
@settings(max_examples=100)
def test_whatever_the_seeds_there_are_whole_numbers_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        seeds = parse_seeds(text)
        assert seeds
        assert len(set(seeds)) == len(seeds)
        assert all(seed >= 0 for seed in seeds)


@pytest.mark.parametrize(
    "text", ["", "a", "-1", "1-", "1.5", "3-1", "0,,x", "9" * 5000, "0-" + "9" * 5000, "0-99999999"]
)
def test_what_is_no_seed_is_explained(text: str) -> None:
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


@given(st.text(max_size=60))
def test_whatever_the_override_there_is_never_anything_but_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        resolve_config(parse_overrides([text]))


class TestSettingsOfSingleVariants:
    @pytest.fixture
    def profile(self, tmp_path: Path) -> str:
        file = tmp_path / "own.toml"
        file.write_text(
            "[loss]\ntau = 0.4\n"
            '[variant."epm+cl".loss]\ntau = 0.9\n'
            "[variant.mse.optimisation]\nepochs = 3\n"
        )
        return str(file)

    def test_they_hold_for_that_variant_alone(self, profile: str) -> None:
        overrides = load_profile(profile)
        assert {v: resolve_config(overrides, v).loss.tau for v in ("mse", "epm", "epm+cl")} == {
            "mse": 0.4,
            "epm": 0.4,
            "epm+cl": 0.9,
        }
        assert resolve_config(overrides, "mse").optimisation.epochs == 3
        assert resolve_config(overrides, "epm").optimisation.epochs == 11

    def test_the_command_line_wins_over_them(self, profile: str) -> None:
        overrides = merge_overrides(load_profile(profile), parse_overrides(["loss.tau=0.1"]))
        assert resolve_config(overrides, "epm+cl").loss.tau == 0.1
        assert resolve_config(overrides, "mse").optimisation.epochs == 3

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('[variant."epm+lc".loss]\ntau = 1.0', "unknown variant 'epm.lc'"),
            (
                '[variant."epm+cl".loss]\ntua = 1.0',
                "unknown field 'loss.tua': did you mean 'loss.tau'",
            ),
            ('[variant."epm+cl"]\ntau = 1.0', "variant.epm.cl: put its fields into tables"),
            ('[variant."epm+cl".loss]\ntau = -1.0', "loss.tau = -1.0"),
        ],
    )
    def test_what_is_wrong_in_them_is_said(self, tmp_path: Path, text: str, message: str) -> None:
        file = tmp_path / "wrong.toml"
        file.write_text(text)
        with pytest.raises(UsageError, match=message):
            resolve_config(load_profile(str(file)), "epm+cl")


def test_the_digest_of_the_tuning_depends_on_its_content_and_not_on_its_order() -> None:
    record = {"study": "s", "splits": ("dev2",), "fields": ("loss.tau",)}
    first = Tuning(**record, trials={"mse": (0.5, 0.6), "epm": (0.4,)})
    assert first.digest == Tuning(**record, trials={"epm": (0.4,), "mse": (0.5, 0.6)}).digest
    assert first.digest != Tuning(**record, trials={"mse": (0.6, 0.5), "epm": (0.4,)}).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tuning]\nstudy = 1", "tuning.study = 1: input should be a valid string"),
        (
            '[tuning]\nstudy = "s"\nsplits = []\nfields = []\ntrials = {}\nmore = 1',
            "tuning.more = 1: extra inputs",
        ),
    ],
)
def test_a_broken_account_of_the_tuning_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "tuned.toml"
    file.write_text(text)
    assert load_profile(str(file)) == {}
    with pytest.raises(UsageError, match=message):
        load_tuning(str(file))
    assert load_tuning("demo") is None
