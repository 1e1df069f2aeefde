"""The settings of a training run, with the paper's Table 4 as defaults.

`ablation.config.overrides` puts them together from profile, command line and variant.
"""

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict

from ablation.config.label_range import check_train_on
from ablation.config.loss_names import check_regression_loss, regression_losses
from ablation.config.model_parts import LINEAR, POOLINGS, check_head, check_pooling

#: The precision of matrix products.
Precision = Literal["float32", "bfloat16"]
#: The name of a module in `ablation/training/losses/regression`.
RegressionLossName = Annotated[str, AfterValidator(check_regression_loss)]
#: Texts that count as equal, see `ablation.data.corpus.text_key`.
EqualTexts = Literal["exact", "normalised", "ignoring_case"]
#: A measure on development rows that can choose a run's epoch.
SelectBy = Literal["pearson", "spearman", "concordance", "rmse", "mae"]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
#: Values that a profile or the command line may give beside a setting's own, by its dotted name;
#: `ablation.runs.precision` replaces them.
ALSO_ACCEPTED: Final = {"optimisation.precision": ("auto",)}
#: Mark of a setting that 0.1.0 did not have. At its default it is left out of the digest, so that
#: runs that were made before it keep their identity.
ADDED: Final[JsonDict] = {"added": True}


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
    equal_texts: EqualTexts = Field(
        "normalised",
        description="texts that stay on one side of every split: equal to the letter (exact); but"
        " for Unicode forms, white space and invisible characters (normalised); or but for case,"
        " too (ignoring_case), as an uncased tokenizer reads them",
        json_schema_extra=ADDED,
    )


class LabelConfig(_Section):
    train_on: Annotated[str, AfterValidator(check_train_on)] = Field(
        "1..5",
        description="scale that labels are mapped to for training; own: as they are. Scores and"
        " predictions are on the corpus's scale. EPM depends on it: a sweep may compare several",
        json_schema_extra=ADDED,
    )


class ModelConfig(_Section):
    encoder: str = Field(
        "FacebookAI/xlm-roberta-large",
        min_length=1,
        description="bundled, tiny, a Hub id or a folder",
    )
    layers: PositiveInt | None = Field(
        None, description="keep the lowest n transformer layers; all if not given"
    )
    prefix: str = Field(
        "",
        max_length=100,
        description="""put before each text; E5 encoders want "query: " (in quotes)""",
    )
    prompt: str = Field(
        "auto",
        min_length=1,
        max_length=100,
        description="if there is no prefix: a prompt that a sentence-transformers folder declares,"
        " by its name; auto: its default one; none",
        json_schema_extra=ADDED,
    )
    pooling: Annotated[str, AfterValidator(check_pooling)] = Field(
        "auto",
        description=f"sentence vector: {', '.join(POOLINGS)}, or FILE.py:NAME; auto: as a"
        " sentence-transformers folder declares, else by encoder family",
    )
    head: Annotated[str, AfterValidator(check_head)] = Field(
        LINEAR,
        description="from the sentence vector to the score: linear (Eq. 1), or FILE.py:NAME",
        json_schema_extra=ADDED,
    )
    frozen_tuning: bool = Field(
        False, description="FT, Section 3.3: train neither embeddings nor the lowest layers"
    )
    freeze_layers: int = Field(3, ge=0, description="how many layers FT freezes (Table 4)")
    lora_rank: PositiveInt | None = Field(
        None,
        description="instead of the encoder, train adapters of this rank (LoRA; Hu et al., 2022)",
        json_schema_extra=ADDED,
    )
    lora_alpha: PositiveFloat = Field(
        16.0,
        description="adapters count lora_alpha / lora_rank times",
        json_schema_extra=ADDED,
    )
    frozen_dropout: bool = Field(
        False,
        description="dropout in frozen layers too; if off, they run once for all epochs",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="in encoder layers; the encoder's own if not given"
    )
    trim_vocabulary: bool = Field(
        True, description="train only the embeddings of tokens that occur; exact for them"
    )

    @model_validator(mode="after")
    def _is_frozen_in_one_way(self) -> "ModelConfig":
        if self.frozen_tuning and self.lora_rank is not None:
            raise ValueError("frozen_tuning and lora_rank both freeze the encoder: choose one")
        return self


class LossConfig(_Section):
    regression: RegressionLossName = Field(
        "mse",
        description=f"{', '.join(regression_losses())}, or FILE.py:FUNCTION; mse is Eq. 2, epm is"
        " Eq. 3",
    )
    epm_scale: PositiveFloat = Field(
        1.0,
        description="of the residual in epm's exponential: r² exp(epm_scale |r|); 1 is Eq. 3,"
        " towards 0 it is mse. The same as labels in another unit",
        json_schema_extra=ADDED,
    )
    huber_delta: PositiveFloat = Field(
        1.0,
        description="residual at which huber's square becomes a line, in units of the label",
        json_schema_extra=ADDED,
    )
    focal_beta: PositiveFloat = Field(
        0.2, description="slope of focal's factor tanh(beta |r| / 2)", json_schema_extra=ADDED
    )
    focal_gamma: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="exponent of focal's factor; 0 is mae",
        json_schema_extra=ADDED,
    )
    weighting: Literal["none", "lds"] = Field(
        "none",
        description="of training texts; lds: rare labels weigh more (Yang et al., 2021)",
        json_schema_extra=ADDED,
    )
    lds_bins: int = Field(
        40,
        ge=1,
        le=10_000,
        description="bins of labels in which lds counts texts",
        json_schema_extra=ADDED,
    )
    lds_sigma: PositiveFloat = Field(
        2.0, description="width of lds's Gaussian kernel, in bins", json_schema_extra=ADDED
    )
    lds_power: float = Field(
        0.5,
        ge=0,
        le=1,
        description="1: inverse counts; 0.5: their square root",
        json_schema_extra=ADDED,
    )
    contrastive: Literal["none", "as_printed", "attract", "supcon", "rank_n_contrast"] = Field(
        "none",
        description="Eq. 9 with its printed sign, or with the sign that its text describes; or on"
        " labels: supcon (Khosla et al., 2020), rank_n_contrast (Zha et al., 2023)",
    )
    contrastive_weight: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="of the contrastive term in the sum, Eq. 10"
    )
    tau: PositiveFloat = Field(
        0.2, description="temperature of the contrastive term (Table 4, for Eq. 9)"
    )
    label_bin: PositiveFloat = Field(
        0.5,
        description="width of supcon's classes, in units of the label",
        json_schema_extra=ADDED,
    )
    self_pairs: bool = Field(
        True, description="count i = j among Eq. 9's pairs of one language, as printed"
    )


class OptimisationConfig(_Section):
    epochs: PositiveInt = Field(11, description="Table 4")
    batch_size: PositiveInt = Field(64, description="Table 4")
    micro_batch: PositiveInt | None = Field(
        None,
        description="texts in memory at a time; same batch and loss for one more forward pass",
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
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="evaluate and keep the exponential moving average of the weights, of which"
        " this share stays at each step, such as 0.99; the weights themselves if not given",
        json_schema_extra=ADDED,
    )
    precision: Precision = Field(
        "float32",
        description="of matrix products; losses stay float32. A profile or --set may say auto:"
        " the faster one on this machine",
    )
    select_by: SelectBy = Field(
        "pearson",
        description="chooses a run's epoch on its development rows, pooled",
        json_schema_extra=ADDED,
    )
    log_every: PositiveInt = Field(
        10, description="steps between two points of the training curves"
    )


class RunConfig(_Section):
    """All settings that can change a run's results."""

    data: DataConfig = DataConfig()
    label: LabelConfig = LabelConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimisation: OptimisationConfig = OptimisationConfig()

    def flat(self) -> dict[str, Any]:
        """Return plain values by dotted field name, in the order of declaration."""
        return {
            f"{section}.{name}": value
            for section, fields in self.model_dump().items()
            for name, value in fields.items()
        }

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON, equal for equal settings on every machine.

        Settings that were added later are left out at their defaults (`ADDED`).
        """
        sections = {name: _without_added(getattr(self, name)) for name in type(self).model_fields}
        content = {name: fields for name, fields in sections.items() if fields}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _without_added(section: _Section) -> dict[str, Any]:
    """Return the settings of a section as JSON, without added ones that have their default."""
    fields = type(section).model_fields
    return {
        name: value
        for name, value in section.model_dump(mode="json").items()
        if fields[name].json_schema_extra != ADDED or getattr(section, name) != fields[name].default
    }


#: Dotted names of all settings.
FIELDS: Final[tuple[str, ...]] = tuple(RunConfig().flat())
