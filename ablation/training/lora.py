"""Low-rank adapters instead of the encoder's own weights: another form of frozen tuning.

LoRA (Hu et al., 2022, "LoRA: low-rank adaptation of large language models", ICLR): the encoder is
frozen, and some of its linear layers get a product of two small matrices added, which train. The
adapters are made by `peft`, which the extra `lora` installs.
"""

from typing import Any, Final

import torch
from transformers import PreTrainedModel

from ablation.config.schema import ModelConfig
from ablation.core.errors import UsageError, first_line
from ablation.training.model import IntimacyRegressor

#: What is adapted in families for which `peft` knows no usual choice.
_ELSE: Final = "all-linear"


def add_lora(model: IntimacyRegressor, config: ModelConfig, seed: int) -> None:
    """Freeze the encoder and add adapters to it, in place. They change nothing before training.

    Args:
        model: The model; its head trains as before.
        config: `lora_rank`, which has to be given, and `lora_alpha`.
        seed: The seed of the adapters' initial weights.

    Raises:
        UsageError: `peft` is not installed, or has no adapter for this encoder.
    """
    peft = _import_peft()
    encoder = model.encoder
    family = encoder.config.model_type
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=known.get(family, _ELSE),
    )
    encoder.requires_grad_(False)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(settings, encoder)
    except ValueError as error:
        raise UsageError(
            f"encoder family {family}: has no layer that LoRA can adapt ({first_line(error)});"
            " leave out model.lora_rank"
        ) from error


def merge_lora(encoder: PreTrainedModel) -> None:
    """Add the adapters' products to the weights that they adapt and remove them, in place."""
    layer_type = _import_peft().tuners.lora.LoraLayer
    for name, module in list(encoder.named_modules()):
        if isinstance(module, layer_type):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(encoder.get_submodule(parent), own, module.get_base_layer())


def _import_peft() -> Any:
    try:
        import peft  # takes seconds
    except ImportError as error:
        raise UsageError(
            "model.lora_rank: LoRA needs peft: pip install 'ablation-suite[lora]'"
        ) from error
    return peft
