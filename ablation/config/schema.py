"""The resolved settings of one training run, and how they are put together.

Defaults are the paper's Table 4. A profile file states its differences, the command line
overrides single fields (`loss.tau=0.1`), and a variant changes what makes it that variant, in
this order. All problems are reported together, before anything is trained.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ablation.config.loss_names import check_regression_loss, regression_losses
from ablation.config.variants import VARIANTS
from ablation.core.errors import UsageError

#: The precision of matrix products.
Precision = Literal["float32", "bfloat16"]
#: The name of a module in `ablation/training/losses/regression`.
RegressionLossName = Annotated[str, AfterValidator(check_regression_loss)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if (
            isinstance(value, bool)
            and cls.model_fields[str(info.field_name)].annotation is not bool
        ):
            raise ValueError("true and false are for switches")
        return value


class DataConfig(_Section):
    split_seed: int = Field(0, ge=0, description="draws Dev1, Dev2 and Dev2's held-out languages")
    max_tokens: int = Field(128, ge=4, le=8192, description="longer texts are cut (Table 4)")


class ModelConfig(_Section):
    encoder: str = Field(
        "FacebookAI/xlm-roberta-large",
        min_length=1,
        description="bundled, tiny, a Hub id or a folder",
    )
    layers: PositiveInt | None = Field(
        None, description="keep the lowest n transformer layers; all where not given"
    )
    prefix: str = Field(
        "",
        max_length=100,
        description="""put before each text; E5 encoders want "query: " (in quotes)""",
    )
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto", description="sentence vector; auto: by encoder family"
    )
    frozen_tuning: bool = Field(
        False, description="FT, Section 3.3: train neither embeddings nor the lowest layers"
    )
    freeze_layers: int = Field(3, ge=0, description="how many layers FT freezes (Table 4)")
    frozen_dropout: bool = Field(
        False,
        description="dropout also in the layers that FT freezes; off, they are run once and their outputs kept",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="in encoder layers; the encoder's own where not given"
    )
    trim_vocabulary: bool = Field(
        True, description="train only the embeddings of tokens that occur; exact for them"
    )


class LossConfig(_Section):
    regression: RegressionLossName = Field(
        "mse",
        description=f"{' or '.join(regression_losses())}; mse is Eq. 2, epm is Eq. 3",
    )
    contrastive: Literal["none", "as_printed", "attract"] = Field(
        "none", description="Eq. 9 with its printed sign, or with the sign that its text describes"
    )
    contrastive_weight: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="of Eq. 9 in the sum, Eq. 10"
    )
    tau: PositiveFloat = Field(0.2, description="temperature of Eq. 9 (Table 4)")
    self_pairs: bool = Field(
        True, description="count i = j among Eq. 9's pairs of one language, as printed"
    )


class OptimisationConfig(_Section):
    epochs: PositiveInt = Field(11, description="Table 4")
    batch_size: PositiveInt = Field(64, description="Table 4")
    micro_batch: PositiveInt | None = Field(
        None,
        description="texts of a batch that are in memory at a time; the same batch and loss, for one more forward pass",
    )
    lr_encoder: PositiveFloat = Field(
        2e-5, description="highest learning rate of the encoder (Table 4)"
    )
    lr_head: PositiveFloat = Field(1e-4, description="highest learning rate of the head (Table 4)")
    lr_layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the rate for each layer further down"
    )
    weight_decay: float = Field(
        0.1, ge=0, allow_inf_nan=False, description="AdamW; not on biases and norms (Table 4)"
    )
    adam_eps: PositiveFloat = Field(1e-6, description="Table 4")
    warmup: float = Field(
        0.1, ge=0, le=1, description="share of the steps in which rates rise (Table 4)"
    )
    decay: Literal["linear", "constant"] = Field(
        "linear", description="after the warm-up; Table 4's 'linear warmup' does not say"
    )
    max_grad_norm: PositiveFloat = Field(1.0, description="Table 4")
    precision: Precision = Field("float32", description="of matrix products; losses stay float32")
    log_every: PositiveInt = Field(
        10, description="steps between two points of the training curves"
    )


class RunConfig(_Section):
    """Everything that the user can set and that can change a run's numbers."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimisation: OptimisationConfig = OptimisationConfig()

    def flat(self) -> dict[str, Any]:
        """Dotted field names to plain values, in the order of declaration."""
        return {
            f"{section}.{name}": value
            for section, fields in self.model_dump().items()
            for name, value in fields.items()
        }

    def digest(self) -> str:
        """SHA-256 of the canonical JSON: equal settings, equal digest, on every machine."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


FIELDS: Final[tuple[str, ...]] = tuple(RunConfig().flat())
#: What `tomllib` raises: its own error (a ValueError), Python's for integers of thousands of digits, and for deep nesting.
NOT_TOML: Final = (ValueError, RecursionError)
MOST_SEEDS: Final = 1000
PROFILES: Final = ("smoke", "demo", "small", "paper")
#: How the settings of a single variant are named among a profile's differences: `variant.epm+cl`.
OF_VARIANT: Final = "variant."
#: The table in which a profile says how its settings were found, see `ablation.config.tuning_record`.
TUNING: Final = "tuning"


def load_profile(name_or_file: str) -> dict[str, Any]:
    """The differences that a profile states, as dotted field names to values.

    `name_or_file` is one of `PROFILES` or the path of a TOML file with the tables data, model,
    loss and optimisation. The same tables below `variant."NAME"` hold for that variant alone; they
    come back under `variant.NAME`. Raises UsageError if it can't be read.
    """
    tables = read_profile(name_or_file)
    differences = {
        f"{section}.{name}": value
        for section, fields in tables.items()
        if section not in (TUNING, "variant")
        for name, value in fields.items()
    }
    for variant, sections in tables.get("variant", {}).items():
        if not isinstance(sections, dict) or not all(
            isinstance(fields, dict) for fields in sections.values()
        ):
            raise UsageError(
                f'profile {name_or_file}: variant.{variant}: write [variant."{variant}".optimisation] and so on'
            )
        own = {
            f"{section}.{name}": value
            for section, fields in sections.items()
            for name, value in fields.items()
        }
        differences[f"{OF_VARIANT}{variant}"] = own
    return differences


def override(differences: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`differences` with `changes`, which win over what is said of single variants too."""
    kept = {
        name: {field: v for field, v in value.items() if field not in changes}
        if name.startswith(OF_VARIANT)
        else value
        for name, value in differences.items()
    }
    return {**kept, **changes}


def read_profile(name_or_file: str) -> dict[str, Any]:
    """The tables of a profile as they stand in its file. Raises UsageError."""
    if name_or_file in PROFILES:
        text = (files("ablation.config.profiles") / f"{name_or_file}.toml").read_text("utf-8")
    else:
        try:
            file = Path(name_or_file).expanduser()
            found = file.is_file()
        except (
            OSError,
            RuntimeError,
        ) as error:  # a name that is too long; a home folder that nobody has
            raise UsageError(
                f"profile {name_or_file[:80]}: {getattr(error, 'strerror', None) or error}"
            ) from error
        if not found:
            near = difflib.get_close_matches(name_or_file, PROFILES, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"known are {', '.join(PROFILES)}, or a TOML file"
            )
            raise UsageError(f"unknown profile {name_or_file!r}: {hint}")
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"profile {file}: can't be read: {error}") from error
    try:
        tables = tomllib.loads(text)
    except NOT_TOML as error:
        raise UsageError(f"profile {name_or_file}: not TOML: {error}") from error
    if loose := [key for key, value in tables.items() if not isinstance(value, dict)]:
        raise UsageError(
            f"profile {name_or_file}: {', '.join(loose)}: fields stand in tables such as [model]"
        )
    return tables


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Field values from texts such as `loss.tau=0.1`; several may stand in one text, with commas.

    Values are read as TOML where they are TOML (numbers, booleans), else taken as text.
    """
    overrides: dict[str, Any] = {}
    for assignment in (
        part.strip() for text in assignments for part in text.split(",") if part.strip()
    ):
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment!r}: write FIELD=VALUE, such as loss.tau=0.1")
        try:
            parsed = tomllib.loads(f"value = {value.strip()}")
        except NOT_TOML:
            parsed = {}
        is_plain = len(parsed) == 1 and not (
            type(parsed["value"]) is int and abs(parsed["value"]) >= 2**63
        )
        overrides[name.strip()] = parsed["value"] if is_plain else value.strip()
    return overrides


def resolve_config(differences: Mapping[str, Any], variant: str = "mse") -> RunConfig:
    """The settings of `variant`: defaults, then `differences`, those for it alone last, then what it changes itself.

    Raises UsageError with a line for each unknown field and each value out of range.
    """
    of_variants = {
        name.removeprefix(OF_VARIANT): own
        for name, own in differences.items()
        if name.startswith(OF_VARIANT)
    }
    problems = [
        f"unknown variant {name!r} in the profile" for name in of_variants if name not in VARIANTS
    ]
    named = [name for name in differences if not name.startswith(OF_VARIANT)]
    for name in dict.fromkeys([*named, *(field for own in of_variants.values() for field in own)]):
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5)
            problems.append(
                f"unknown field {name!r}" + (f": did you mean {near[0]!r}?" if near else "")
            )
    effective = {**differences, **of_variants.get(variant, {})}
    known = {name: value for name, value in effective.items() if name in FIELDS}
    try:
        RunConfig.model_validate(
            _by_section(known)
        )  # on its own: a wrong value counts even where the variant decides
        config = RunConfig.model_validate(_by_section({**known, **VARIANTS[variant].changes}))
    except ValidationError as error:
        problems += [
            f"{'.'.join(map(str, e['loc']))} = {repr(e['input'])[:80]}: {e['msg'].lower()}"
            for e in error.errors()
        ]
    if problems:
        raise UsageError(problems)
    return config


def _by_section(flat: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {}
    for name, value in flat.items():
        section, field = name.split(".", 1)
        values.setdefault(section, {})[field] = value
    return values


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `0,1,2` or `0-4`. Raises UsageError."""
    seeds: list[int] = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"seeds {part!r}: give whole numbers from 0 on, such as 0,1,2 or 0-4")
        if max(len(first), len(last)) > 18 or int(last or first) - int(first) >= MOST_SEEDS:
            raise UsageError(
                f"seeds {part[:40]!r}: at most {MOST_SEEDS} seeds, each of at most 18 digits"
            )
        seeds += range(int(first), int(last or first) + 1)
    if not seeds:
        raise UsageError("no seeds given; e.g. --seeds 0,1,2")
    return tuple(dict.fromkeys(seeds))
