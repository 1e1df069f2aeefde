"""A tiny XLM-R with random weights and one token per byte, for tests only."""

from pathlib import Path
from typing import Final

from ablation.data.seeding import seed_for
from ablation.encoders.cache import build_once

_SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
_VERSION: Final = 1


def tiny_encoder() -> Path:
    """Return a folder in the Hub's layout with 4 layers of width 32 and a token for each byte."""
    return build_once(f"tiny-{_VERSION}", _build)


def _build(folder: Path) -> None:
    # Imported here: a built encoder's folder is found without them.
    import torch
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *characters, "<mask>"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            pre_tokenizers.Split(Regex("."), "isolated"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed_for("tiny encoder", _VERSION))
        model = XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                num_hidden_layers=4,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=130,
                type_vocab_size=1,
                pad_token_id=1,
                bos_token_id=0,
                eos_token_id=2,
            ),
            add_pooling_layer=False,
        )
    model.save_pretrained(folder)
