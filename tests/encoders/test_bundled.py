"""The bundled encoder: its token ids are the published tokenizer's, its vectors are sensible."""

import hashlib
import importlib.metadata
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from ablation.core.errors import UsageError
from ablation.data.corpus import Corpus, load_corpus
from ablation.encoders.bundled import PACKAGE, bundled_encoder, require_bundled
from ablation.encoders.loading import Encoder, load_encoder
from ablation.encoders.xlmr_tokenizer import as_published, build_tokenizer

#: Made with the published tokenizer.json of multilingual-e5-small: ids of sixty demo texts.
DEMO_IDS = Path(__file__).with_name("demo_token_ids.json")
#: SHA-256 over the same tokenizer's ids of every text, training rows first.
DEMO_DIGEST = "18184d1501b0d1b4c0685a4428f0bf6e4aa577556a03308aea7c6e9ff6b96de0"
MINT_DIGEST = "e22f941cd598a5e8d130632d1d13c9ef1415bb784343a7b44371495ef9df903b"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    try:
        return load_encoder("bundled")
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tokenizer(encoder: Encoder) -> PreTrainedTokenizerBase:
    return encoder.tokenizer


def texts_of(corpus: Corpus) -> list[str]:
    assert corpus.test is not None
    return pd.concat([corpus.train["text"], corpus.test["text"]]).tolist()


def digest_of(ids_of_texts: Iterable[list[int]]) -> str:
    digest = hashlib.sha256()
    for ids in ids_of_texts:
        digest.update(json.dumps(ids).encode() + b"\n")
    return digest.hexdigest()


def test_demo_texts_have_the_published_tokenizers_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    expected: dict[str, list[int]] = json.loads(DEMO_IDS.read_text("utf-8"))
    assert {text: tokenizer(text)["input_ids"] for text in expected} == expected


def test_every_demo_text_has_the_published_tokenizers_ids(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert digest_of(tokenizer(texts_of(load_corpus("demo")))["input_ids"]) == DEMO_DIGEST


def test_every_mint_text_has_the_published_tokenizers_ids(
    tokenizer: PreTrainedTokenizerBase, mint: Path
) -> None:
    assert digest_of(tokenizer(texts_of(load_corpus(str(mint))))["input_ids"]) == MINT_DIGEST


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [0, 2]),
        (" \t\n ", [0, 6, 2]),
        ("\x00\x01\x02", [0, 6, 3, 2]),
        ("a  b", [0, 10, 876, 2]),
        ("<s></s><pad><mask>", [0, 0, 2, 1, 250001, 2]),
        ("👩\u200d👩\u200d👧", [0, 6, 244785, 6, 244785, 6, 245719, 2]),
        ("ｆｕｌｌ ① ﬁne", [0, 4393, 106, 5885, 2]),
        ("ha" * 9, [0, 256, 71514, 221582, 2]),
        ("\U000e0041𓀀", [0, 6, 3, 2]),
    ],
)
def test_rare_texts_have_the_published_tokenizers_ids(
    text: str, ids: list[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    assert tokenizer(text)["input_ids"] == ids


@given(st.text(st.characters(codec="utf-8"), max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_has_ids_of_the_vocabulary_between_its_two_markers(
    tokenizer: PreTrainedTokenizerBase, text: str
) -> None:
    first, *ids, last = tokenizer(text)["input_ids"]
    assert (first, last) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert all(0 <= number < len(tokenizer) for number in ids)


@pytest.mark.parametrize("text", ["é", "ñandú", "à la carte", "İzmir"])
def test_decomposed_accents_are_composed(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert tokenizer(decomposed)["input_ids"] == tokenizer(text)["input_ids"]


def test_a_very_long_word_is_read_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("na" * 20_000)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "na" * 20_000


def test_a_tokenizer_prefers_the_likelier_pieces() -> None:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "<mask>"]
    likely = build_tokenizer(pieces, [0, 0, 0, 0, -1, -1, -1, -1.5, 0])
    unlikely = build_tokenizer(pieces, [0, 0, 0, 0, -1, -1, -1, -2.5, 0])
    assert likely("ab")["input_ids"] == [0, 4, 7, 2]
    assert unlikely("ab")["input_ids"] == [0, 4, 5, 6, 2]
    assert likely("a", "b")["input_ids"] == [0, 4, 5, 2, 2, 4, 6, 2]


@pytest.mark.parametrize(
    ("score", "published"),
    [
        (-3.4635426998138428, -3.4635426998138428),
        (-7.4715776443481445, -7.471577644348144),
        (-9.020796775817871, -9.020796775817873),
        (0.0, 0.0),
    ],
)
def test_scores_are_rounded_as_in_the_published_file(score: float, published: float) -> None:
    assert as_published(score) == published


def test_translations_are_closer_than_unrelated_sentences(encoder: Encoder) -> None:
    same = ["I love my dog very much.", "Quiero mucho a mi perro.", "J'aime beaucoup mon chien."]
    other = "The train to the airport leaves at nine."
    batch = encoder.tokenizer([*same, other], padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
    mask = batch["attention_mask"][..., None]
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.85
    assert cosine[0, 2] > 0.85
    assert (cosine[:3, 3] < 0.8).all()
    assert encoder.model.config.num_hidden_layers == 12
    assert encoder.model.get_input_embeddings().weight.shape == (250_037, 384)


class TestWithoutTheWheel:
    @pytest.fixture(autouse=True)
    def _cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))

    def test_the_message_names_the_package_and_the_ways_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(name: str) -> None:
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr("ablation.encoders.bundled.distribution", missing)
        for attempt in (require_bundled, bundled_encoder):
            with pytest.raises(UsageError, match=rf"{PACKAGE}.*intfloat/multilingual-e5-small.*fo"):
                attempt()

    def test_a_wheel_without_its_file_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ablation.encoders.bundled.FILE_NAME", "gone.bin")
        with pytest.raises(UsageError, match=r"gone\.bin|not installed"):
            require_bundled()

    def test_an_encoder_that_was_built_before_needs_no_wheel(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("ablation.encoders.bundled.PACKAGE", "no-such-package")
        monkeypatch.setattr("ablation.encoders.bundled.FOLDER_NAME", "built")
        (tmp_path / "built").mkdir()
        require_bundled()
        assert bundled_encoder() == tmp_path / "built"
