"""Encoders by name: loading, digests, errors, and that no code of theirs is executed."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, T5Config

from ablation.core.errors import RunError, UsageError
from ablation.encoders.cache import build_once, remove_stale_drafts
from ablation.encoders.loading import load_encoder, pooling_of, transformer_layers
from ablation.encoders.sources import encoder_digest, locate_encoder
from ablation.encoders.tiny import tiny_encoder


def copy_of_tiny(folder: Path) -> Path:
    folder.mkdir()
    for file in tiny_encoder().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_the_tiny_encoder_is_the_same_every_time() -> None:
    first, second = load_encoder("tiny"), load_encoder("tiny")
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_every_text_has_tokens_of_its_own_in_the_tiny_encoder() -> None:
    tokenizer = load_encoder("tiny").tokenizer
    assert tokenizer("你好")["input_ids"] != tokenizer("你们")["input_ids"]
    assert tokenizer.unk_token_id not in tokenizer("héllo 🐞 你好")["input_ids"]


@pytest.mark.parametrize("name", ["tiny", "bundled"])
def test_a_tokenizer_that_is_parsed_once_is_the_one_that_transformers_parses_twice(
    name: str,
) -> None:
    once, twice = load_encoder(name).tokenizer, AutoTokenizer.from_pretrained(locate_encoder(name))
    assert type(once) is type(twice)
    assert once.added_tokens_decoder == twice.added_tokens_decoder
    assert once.special_tokens_map == twice.special_tokens_map
    assert once.all_special_ids == twice.all_special_ids
    assert once.backend_tokenizer.to_str() == twice.backend_tokenizer.to_str()
    text = "héllo <mask> 你好 </s>  🐞"
    assert once(text)["input_ids"] == twice(text)["input_ids"]


def test_a_local_folder_gives_the_same_encoder(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    assert encoder_digest(str(folder)) == encoder_digest("tiny")
    for name, value in load_encoder(str(folder)).model.state_dict().items():
        assert torch.equal(value, load_encoder("tiny").model.state_dict()[name])


def test_a_changed_weight_changes_the_digest(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert encoder_digest(str(folder)) != encoder_digest("tiny")


@pytest.mark.parametrize(
    "name",
    [
        "vocab.txt",
        "merges.txt",
        "spm.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
        "chat_template.jinja",
        "1_Pooling/config.json",
        "vocabulary.of-a-new-kind",
    ],
)
def test_every_file_that_loading_may_read_changes_the_digest(tmp_path: Path, name: str) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"one")
    before = encoder_digest(str(folder))
    assert before != encoder_digest("tiny")
    file.write_bytes(b"two")
    assert encoder_digest(str(folder)) != before


@pytest.mark.parametrize(
    "name", ["README.md", "pytorch_model.bin", ".gitattributes", ".cache/huggingface/x.metadata"]
)
def test_files_that_are_never_read_leave_the_digest(tmp_path: Path, name: str) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"anything")
    assert encoder_digest(str(folder)) == encoder_digest("tiny")


def test_the_lowest_layers_are_kept() -> None:
    whole, cut = load_encoder("tiny"), load_encoder("tiny", layers=2)
    layers = transformer_layers(cut.model)
    assert len(layers) == 2
    expected = transformer_layers(whole.model)[1].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in layers[1].state_dict().items())


def test_more_layers_than_the_encoder_has_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.layers = 9: encoder 'tiny' has 4 layers"):
        load_encoder("tiny", layers=9)


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        ("xlm-roberta", "cls"),
        ("xlm-roberta-xl", "cls"),
        ("roberta", "cls"),
        ("camembert", "cls"),
        ("bert", "mean"),
        ("distilbert", "mean"),
    ],
)
def test_automatic_pooling_depends_on_the_family(family: str, pooling: str) -> None:
    encoder = load_encoder("tiny")
    encoder.model.config.model_type = family
    assert pooling_of(encoder, "auto") == pooling
    assert pooling_of(encoder, "mean") == "mean"
    assert pooling_of(encoder, "cls") == "cls"


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"unknown pooling 'means': did you mean 'mean'\?"):
        pooling_of(load_encoder("tiny"), "means")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="the folder does not exist"):
        load_encoder(name)


def test_an_unreachable_hub_gives_one_line_with_the_ways_out() -> None:
    with pytest.raises(UsageError) as error:
        load_encoder("nobody/no-such-model")
    assert len(error.value.problems) == 1
    for part in ("nobody/no-such-model", "network", "local folder", "--encoder bundled"):
        assert part in str(error.value)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_encoder(str(tmp_path))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    (folder / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "exploded"),)  # type: ignore[return-value]

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UsageError, match="pickled weights are not read"):
        load_encoder(str(folder))
    assert not (tmp_path / "exploded").exists()


def test_code_that_an_encoder_brings_is_not_executed(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    marker = tmp_path / "executed"
    (folder / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    load_encoder(str(folder))
    assert not marker.exists()


def test_damaged_weights_give_one_line(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(UsageError, match="can't be loaded from") as error:
        load_encoder(str(folder))
    assert "\n" not in str(error.value)


def test_a_model_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    T5Config().save_pretrained(folder)
    with pytest.raises(UsageError, match="t5 model, not a transformer encoder"):
        load_encoder(str(folder))


def test_other_families_find_their_layers() -> None:
    model = DistilBertModel(
        DistilBertConfig(vocab_size=20, dim=8, n_layers=2, n_heads=2, hidden_dim=16)
    )
    assert len(transformer_layers(model)) == 2
    assert isinstance(model, AutoModel.from_config(model.config).__class__)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_every_file_that_can_change_a_result_counts_in_the_digest(
    file: str, tmp_path: Path
) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    content = json.loads((folder / file).read_text("utf-8"))
    (folder / file).write_text(json.dumps(content | {"changed": 1}), "utf-8")
    assert encoder_digest(str(folder)) != encoder_digest("tiny")


def test_a_renamed_file_changes_the_digest(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    (folder / "model.safetensors").rename(folder / "model2.safetensors")
    assert encoder_digest(str(folder)) != encoder_digest("tiny")


@pytest.mark.parametrize("part", ["../outside.safetensors", "weights.bin"])
def test_an_index_of_weights_names_safetensors_beside_it_only(part: str, tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    index = json.dumps({"weight_map": {"a": "model.safetensors", "b": part}})
    (folder / "model.safetensors.index.json").write_text(index, "utf-8")
    with pytest.raises(UsageError, match=r"only \.safetensors files beside it"):
        encoder_digest(str(folder))


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UsageError, match=r"tokenizer|can't be loaded"):
        load_encoder(str(folder))


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path) -> None:
    folder = copy_of_tiny(tmp_path / "copy")
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    config["pad_token"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UsageError, match="its tokenizer has no padding token"):
        load_encoder(str(folder))


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(RunError, match="encoder: can't be written: disk full"):
        build_once("encoder", fail)
    assert not [entry for entry in tmp_path.iterdir() if entry.is_dir()]
    folder = build_once("encoder", lambda draft: (draft / "whole").touch())
    assert (folder / "whole").is_file()
    assert not (folder / "half").exists()
    assert build_once("encoder", fail) == folder


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_weights_in_the_cache_are_named_with_the_folder_to_delete(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    whole = encoder_digest("tiny")
    (file,) = tmp_path.glob("tiny-*/model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if damage == "flipped" else content[:-7])
    with pytest.raises(UsageError, match=r"model\.safetensors: is not as it was made .* delete"):
        encoder_digest("tiny")
    shutil.rmtree(file.parent)
    assert encoder_digest("tiny") == whole


def test_what_a_killed_process_left_in_the_cache_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path))
    folder = build_once("encoder", lambda draft: (draft / "whole").touch())
    for name in (".encoder.99999999-0123abcd.part", ".encoder-x1y2z3"):  # now, and in 0.1.0
        (tmp_path / name).mkdir()
    assert len(remove_stale_drafts()) == 2
    assert [entry for entry in tmp_path.iterdir() if entry.is_dir()] == [folder]
