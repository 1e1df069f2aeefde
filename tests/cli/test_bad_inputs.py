"""Invalid inputs, in a table: each gives clear lines and its exit code, and writes nothing.

Errors of the command line's parser have the same form. Valid input that looks odd (CRLF, quoted
newlines, a byte-order mark) is at the end.
"""

import contextlib
import json
import pickle
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

from ablation.cli.main import main
from ablation.cli.parsing import split_list
from ablation.config.overrides import load_profile, parse_overrides, resolve_config
from ablation.config.tuning_record import load_tuning
from ablation.config.variants import TABLE_3
from ablation.core.errors import LONGEST_LINE, UsageError
from ablation.data.corpus import load_corpus
from ablation.data.splits import select_splits
from ablation.encoders.tiny import tiny_encoder
from ablation.tracking.store import experiment_id, open_store
from studies.space import load_space
from tests.conftest import some_rows, write_corpus

HEADER = "text,label,language\n"
GOOD = HEADER + "".join(
    f"{language} words {i},{1 + i % 4},{language}\n" for i in range(20) for language in ("en", "fr")
)


@dataclass(frozen=True)
class Bad:
    """An invalid input: `arguments` of the command, its files, and the message it must give.

    Names in braces stand for paths: {here} the working folder, {corpus} a valid corpus, {store} a
    valid store. `build` makes further files, such as a damaged copy of the tiny encoder.
    """

    arguments: str
    message: str
    code: int = 2
    files: dict[str, str | bytes] | None = None
    build: Callable[[Path], None] | None = None


def train(content: str | bytes) -> dict[str, str | bytes]:
    return {"bad/train.csv": content}


def profile(content: str | bytes) -> dict[str, str | bytes]:
    return {"mine.toml": content}


def space(content: str | bytes) -> dict[str, str | bytes]:
    return {"space.toml": content}


def encoder(folder: Path) -> Path:
    shutil.copytree(tiny_encoder(), folder / "encoder")
    return folder / "encoder"


def config_of(folder: Path, **changes: object) -> None:
    file = encoder(folder) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_a_config(folder: Path) -> None:
    (encoder(folder) / "config.json").unlink()


def with_a_broken_config(folder: Path) -> None:
    (encoder(folder) / "config.json").write_text("{not json")


def with_an_unknown_family(folder: Path) -> None:
    config_of(folder, model_type="perceptron-2000")


def with_other_sizes(folder: Path) -> None:
    config_of(folder, hidden_size=48, num_attention_heads=2)


def with_more_layers_than_weights(folder: Path) -> None:
    config_of(folder, num_hidden_layers=6)


def with_foreign_attention(folder: Path) -> None:
    config_of(folder, attn_implementation="somebody/attention")


def of_another_kind(folder: Path) -> None:
    T5Config().save_pretrained(encoder(folder))


def of_half_a_model(folder: Path) -> None:
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    place = encoder(folder)
    model = T5EncoderModel(T5Config(vocab_size=100, **sizes))
    model.config.save_pretrained(place)
    weights = {n: w.clone() for n, w in model.state_dict().items()}
    save_file(weights, place / "model.safetensors", {"format": "pt"})


def wrapped_for_several_gpus(folder: Path) -> None:
    file = encoder(folder) / "model.safetensors"
    weights = {f"module.{name}": weight for name, weight in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})


def with_a_sentencepiece_model_only(folder: Path) -> None:
    place = encoder(folder)
    for file in place.glob("*token*"):
        file.unlink()
    (place / "sentencepiece.bpe.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02")


def with_damaged_weights(folder: Path) -> None:
    (encoder(folder) / "model.safetensors").write_bytes(b"not safetensors at all")


def with_cut_weights(folder: Path) -> None:
    weights = encoder(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5000])


def with_empty_weights(folder: Path) -> None:
    (encoder(folder) / "model.safetensors").write_bytes(b"")


def with_a_pickle_only(folder: Path) -> None:
    place = encoder(folder)
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": [1.0]}))


def without_a_tokenizer(folder: Path) -> None:
    place = encoder(folder)
    for file in place.glob("*token*"):
        file.unlink()


def with_a_broken_tokenizer(folder: Path) -> None:
    (encoder(folder) / "tokenizer.json").write_text("[]")


def with_an_index_that_leaves(folder: Path) -> None:
    place = encoder(folder)
    (place / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../weights.safetensors"}})
    )


def with_an_index_of_pickles(folder: Path) -> None:
    place = encoder(folder)
    (place / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "pytorch_model.bin"}})
    )


def another_database(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "other.db")) as connection:
        connection.execute("create table recipes (name text)")


def a_deleted_experiment(folder: Path) -> None:
    store = open_store(f"sqlite:///{folder / 'mlflow.db'}")
    store.client.delete_experiment(experiment_id(store, "gone"))


def an_experiment_without_runs(folder: Path) -> None:
    experiment_id(open_store(f"sqlite:///{folder / 'mlflow.db'}"), "ablation")


DATA = "data {here}/bad"
RUN = "run --data {corpus} --profile smoke --splits dev1 --variants mse"
SWEEP = (
    "sweep --data {corpus} --profile smoke --trials 1 "
    "--storage sqlite:///{here}/studies.db --out {here}/out"
)
CURVES = "curves --data {corpus} --profile smoke --taus 0.2 --seeds 0"
PROFILE = "run --data {corpus} --profile {here}/mine.toml"
SPACE = "sweep --data {corpus} --profile smoke --trials 1 --space {here}/space.toml --storage sqlite:///{here}/studies.db"
ENCODER = (
    "plan --data {corpus} --profile smoke --splits dev1 --variants mse --encoder {here}/encoder"
)

TABLE: dict[str, Bad] = {
    # Files
    "data missing": Bad(
        "data {here}/nowhere", r"nowhere: does not exist; data is 'demo' or a folder"
    ),
    "data a file of no rows": Bad(
        "data {here}/notes.md",
        r"notes\.md: is a file; data is 'demo' or a folder",
        files={"notes.md": "# Notes"},
    ),
    "data a folder without files": Bad(
        DATA, r"bad/train\.csv: not found; the folder needs a train\.csv", files={"bad/x": ""}
    ),
    "data a folder named train.csv": Bad(
        DATA, r"train\.csv: not found", files={"bad/train.csv/x": ""}
    ),
    "data with a name too long": Bad(f"data {'a' * 300}", r"too long"),
    "data in nobody's home": Bad("data ~nobody-of-this-name/x", r"~nobody-of-this-name/x: "),
    "an empty file": Bad(DATA, r"train\.csv: the file is empty", files=train("")),
    "only blank lines": Bad(DATA, r"train\.csv: the file is empty", files=train("\n\n")),
    "only a header": Bad(DATA, r"train\.csv: no rows below the header", files=train(HEADER)),
    "binary": Bad(
        DATA, r"train\.csv, line \d+: byte 0x80 is not UTF-8", files=train(bytes(range(256)))
    ),
    "a picture": Bad(
        DATA, r"train\.csv, line 1: byte 0x89 is not UTF-8", files=train(b"\x89PNG\r\n\x1a\n\0\0")
    ),
    "a spreadsheet's archive": Bad(
        DATA, r"train\.csv: this is an Excel file", files=train(b"PK\x03\x04\x14\0\x06\0")
    ),
    "a text that is called Parquet": Bad(
        "data rows.parquet", r"rows\.parquet: does not begin as", files={"rows.parquet": GOOD}
    ),
    "UTF-16": Bad(
        DATA, r"train\.csv: this is UTF-16; save it as UTF-8", files=train(GOOD.encode("utf-16"))
    ),
    "UTF-16 without a mark": Bad(
        DATA, r"line 1: a NUL byte; this is not a text file", files=train(GOOD.encode("utf-16-le"))
    ),
    "Latin-1": Bad(
        DATA,
        r"line 42: byte 0xe9 is not UTF-8; save",
        files=train(GOOD.encode() + "é,1,fr\n".encode("latin-1")),
    ),
    "a NUL byte": Bad(DATA, r"line 42: a NUL byte", files=train(GOOD + "a\0b,2,en\n")),
    "a million characters": Bad(
        DATA,
        r"line 42: .*quotation mark left open",
        files=train(GOOD + "a" * 1_000_000 + ",2,en\n"),
    ),
    "a quotation mark left open": Bad(
        DATA, r"line 42: .*quotation mark left open", files=train(GOOD + '"a,2,en\nb,3,en\n')
    ),
    "a stray quotation mark": Bad(
        DATA, r"line 42: .*quote texts as CSV does", files=train(GOOD + '"a"b,2,en\n')
    ),
    "a column twice": Bad(
        DATA, r"line 1: a column occurs twice", files=train("text,text,label,language\na,b,1,en\n")
    ),
    "no header": Bad(
        DATA, r"line 1: column label, language, text is missing", files=train("hello,1,en\n")
    ),
    "an extra column": Bad(
        DATA,
        r"line 1: unexpected column id; the columns are",
        files=train("text,label,language,id\n"),
    ),
    "semicolons": Bad(
        DATA, r"delimiter looks like ';', expected a comma", files=train(GOOD.replace(",", ";"))
    ),
    "tabs": Bad(DATA, r"delimiter looks like '\\t'", files=train(GOOD.replace(",", "\t"))),
    "a contrastive loss on one language": Bad(
        "run --data {here}/bad --profile smoke --splits dev1 --variants mse,epm+cl",
        r"split 'dev1' trains on one group, and the language-contrastive loss of epm\+cl needs two:"
        r" use --variants mse",
        files=train(GOOD.replace(",fr\n", ",en\n")),
    ),
    "too few rows": Bad(
        DATA, r"10 rows, too few", files=train("".join(GOOD.splitlines(keepends=True)[:11]))
    ),
    "a wrong test file": Bad(
        DATA,
        r"test\.csv, line 2: the label 6 is outside",
        files=train(GOOD) | {"bad/test.csv": HEADER + "a,6,en\n"},
    ),
    "an empty test file": Bad(
        DATA, r"test\.csv: the file is empty", files=train(GOOD) | {"bad/test.csv": ""}
    ),
    # Values
    "a label that is a word": Bad(
        DATA, r"line 42: the label 'high' is not a number", files=train(GOOD + "a,high,en\n")
    ),
    "a label of 0": Bad(
        DATA, r"line 42: the label 0 is outside 1 to 5", files=train(GOOD + "a,0,en\n")
    ),
    "a label of 5.1": Bad(
        DATA, r"line 42: the label 5\.1 is outside 1 to 5", files=train(GOOD + "a,5.1,en\n")
    ),
    "a label that is nan": Bad(
        DATA, r"line 42: the label nan is outside", files=train(GOOD + "a,nan,en\n")
    ),
    "an infinite label": Bad(
        DATA, r"line 42: the label 1e999 is outside", files=train(GOOD + "a,1e999,en\n")
    ),
    "a decimal comma": Bad(
        DATA, r"line 42: the label '2,5' is not a number", files=train(GOOD + 'a,"2,5",en\n')
    ),
    "an empty label": Bad(DATA, r"line 42: the label is empty", files=train(GOOD + "a,,en\n")),
    "an empty text": Bad(DATA, r"line 42: the text is empty", files=train(GOOD + " ,2,en\n")),
    "an unknown language": Bad(
        DATA,
        r"line 42: unknown language 'Klingon'; use an English name",
        files=train(GOOD + "a,2,Klingon\n"),
    ),
    "a path for a language": Bad(
        DATA, r"line 42: unknown language '\.\./\.\./en'", files=train(GOOD + "a,2,../../en\n")
    ),
    "Excel's line of another delimiter": Bad(
        DATA,
        r"line 1: sep=; names the delimiter: .* set files\.delimiter = ';'",
        files=train("sep=;\n" + GOOD.replace(",", ";")),
    ),
    "too few fields": Bad(DATA, r"line 42: 1 field too few", files=train(GOOD + "a,2\n")),
    "an unquoted comma": Bad(
        DATA, r"line 42: 1 field too many; quote texts", files=train(GOOD + "a, b,2,en\n")
    ),
    "escape codes in a value": Bad(
        DATA, r"line 42: the label '9\\x1b\[31m' is not", files=train(GOOD + "a,9\x1b[31m,en\n")
    ),
    # Parameters
    "a negative tau": Bad(
        f"{RUN} --set loss.tau=-1", r"loss\.tau = -1: input should be greater than 0"
    ),
    "a tau of 0": Bad(f"{RUN} --set loss.tau=0", r"loss\.tau = 0: "),
    "a tau that is nan": Bad(f"{RUN} --set loss.tau=nan", r"loss\.tau = nan: .*finite"),
    "a variant in capitals": Bad(f"{RUN},EPM", r"unknown variant 'EPM': did you mean 'epm'\?"),
    "a misspelt precision": Bad(
        f"{RUN} --set optimisation.precision=auot", r"precision = 'auot': did you mean 'auto'\?"
    ),
    "a precision that is like none": Bad(
        f"{RUN} --set optimisation.precision=x", r"'x': known are float32, bfloat16, auto"
    ),
    "a misspelt kind of equal texts": Bad(
        f"{RUN} --set data.equal_texts=normalized", r"equal_texts = .*did you mean 'normalised'\?"
    ),
    "an endless rate": Bad(
        f"{RUN} --set optimisation.lr_encoder=inf", r"optimisation\.lr_encoder = inf: .*finite"
    ),
    "a field of true": Bad(
        f"{RUN} --set optimisation.epochs=true", r"epochs = True: .*true and false are for switches"
    ),
    "zero epochs": Bad(
        f"{RUN} --set optimisation.epochs=0",
        r"optimisation\.epochs = 0: .*greater than or equal to 1",
    ),
    "half an epoch": Bad(f"{RUN} --set optimisation.epochs=0.5", r"optimisation\.epochs = 0\.5: "),
    "no batch": Bad(f"{RUN} --set optimisation.batch_size=0", r"optimisation\.batch_size = 0: "),
    "a dropout of 1": Bad(f"{RUN} --set model.dropout=1", r"model\.dropout = 1: .*less than 1"),
    "too few tokens": Bad(f"{RUN} --set data.max_tokens=1", r"data\.max_tokens = 1: "),
    "an unknown sign": Bad(
        f"{RUN} --set loss.contrastive=repel", r"loss\.contrastive = 'repel': known are .*attract"
    ),
    "an unknown field": Bad(
        f"{RUN} --set loss.tua=1", r"unknown field 'loss\.tua': did you mean 'loss\.tau'\?"
    ),
    "no value": Bad(f"{RUN} --set loss.tau", r"--set 'loss\.tau': write FIELD=VALUE"),
    "a freeze depth over the encoder's": Bad(
        f"{RUN.replace('mse', 'epm+ft')} --set model.freeze_layers=9",
        r"model\.freeze_layers = 9: the encoder has 4 layers",
    ),
    "more layers than there are": Bad(
        f"{RUN} --set model.layers=9", r"model\.layers = 9: encoder 'tiny' has 4 layers"
    ),
    "seeds a": Bad(
        f"{RUN} --seeds a", r"seeds 'a': give whole numbers from 0 on, such as 0,1,2 or 0-4"
    ),
    "a negative seed": Bad(f"{RUN} --seeds -1", r"seeds '-1': give whole numbers"),
    "no seeds": Bad(f"{RUN} --seeds ,", r"no seeds given"),
    "seeds that go down": Bad(f"{RUN} --seeds 3-1,2", r"seeds .3-1.: .*; write 1-3"),
    "seeds by the million": Bad(f"{RUN} --seeds 0-99999999", r"seeds '0-99999999': at most 1000"),
    "an unknown variant": Bad(
        "run --data {corpus} --variants emp", r"unknown variant 'emp': did you mean 'epm'\?"
    ),
    "an ensemble of nothing": Bad(
        "run --data {corpus} --variants ensemble", r"the ensemble combines other variants' runs"
    ),
    "an unknown split": Bad(f"{RUN} --splits dve1", r"unknown split 'dve1': did you mean 'dev1'\?"),
    "a split of one language twice": Bad(
        f"{RUN} --splits dev2:fr+fr", r"split 'dev2:fr\+fr': name two different languages"
    ),
    "a split of a language that is not there": Bad(
        f"{RUN} --splits dev2:fr+ko", r"no labelled rows in ko; the corpus has zh, en"
    ),
    "a split of no language": Bad(f"{RUN} --splits dev2:../x+fr", r"unknown language '\.\./x'"),
    "neither true nor false": Bad(
        f"{RUN} --fresh perhaps", r"--fresh 'perhaps': .*give true, false or nothing"
    ),
    "a name of 100 000 characters": Bad(
        f"run --data {{corpus}} --variants {'x' * 100_000}",
        r"unknown variant 'xxx.* \.\.\. .*",
    ),
    # Profiles
    "an unknown profile": Bad(
        "run --data {corpus} --profile dmo", r"unknown profile 'dmo': did you mean 'demo'\?"
    ),
    "a profile that is a folder": Bad(
        "run --data {corpus} --profile {corpus}", r"unknown profile .*or a TOML file"
    ),
    "a profile that is no TOML": Bad(
        PROFILE, r"mine\.toml: not TOML: .*line 1", files=profile("[loss\n")
    ),
    "a profile that is binary": Bad(
        PROFILE, r"mine\.toml: can't be read", files=profile(b"\xff\xfe\0")
    ),
    "a profile nested too deep": Bad(
        PROFILE, r"mine\.toml: not TOML", files=profile("[loss]\ntau = " + "[" * 5000)
    ),
    "a profile without tables": Bad(
        PROFILE, r"tau: put fields into tables such as \[model\]", files=profile("tau = 1")
    ),
    "a profile with an unknown field": Bad(
        PROFILE,
        r"unknown field 'optimisation\.epoch': did you mean 'optimisation\.epochs'\?",
        files=profile("[optimisation]\nepoch = 3"),
    ),
    "a profile with an unknown table": Bad(
        PROFILE, r"unknown field 'schedule\.warm'", files=profile("[schedule]\nwarm = 3")
    ),
    "a profile with a wrong type": Bad(
        PROFILE,
        r"optimisation\.epochs = 'three': .*valid integer",
        files=profile("[optimisation]\nepochs = 'three'"),
    ),
    "a profile with a date": Bad(
        PROFILE, r"loss\.tau = datetime.*valid number", files=profile("[loss]\ntau = 2020-01-01")
    ),
    "a profile with a list": Bad(
        PROFILE,
        r"loss\.tau = \[0\.1, 0\.2\]: .*valid number",
        files=profile("[loss]\ntau = [0.1, 0.2]"),
    ),
    "a profile of an unknown variant": Bad(
        PROFILE,
        r"unknown variant 'empp' in the profile",
        files=profile("[variant.empp.loss]\ntau = 1.0"),
    ),
    "a profile with a variant that is no table": Bad(
        PROFILE, r"variant\.mse: put its fields into tables", files=profile("[variant]\nmse = 3")
    ),
    "a profile with a broken tuning": Bad(
        PROFILE,
        r"tuning\.study = 1: input should be a valid string",
        files=profile("[model]\nencoder = 'tiny'\n[tuning]\nstudy = 1"),
    ),
    # Encoders
    "an encoder that is not there": Bad(
        "plan --data {corpus} --profile smoke --encoder {here}/encoder",
        r"the folder does not exist",
    ),
    "an encoder that the Hub does not have": Bad(
        "plan --data {corpus} --profile smoke --encoder nobody/none",
        r"'nobody/none': can't be loaded from the Hugging Face Hub .*--encoder bundled",
    ),
    "an encoder's name with dots": Bad(
        "plan --data {corpus} --profile smoke --encoder ../../x", r"the folder does not exist"
    ),
    "a file for an encoder": Bad(
        "plan --data {corpus} --profile smoke --encoder {corpus}/train.csv",
        r"the folder does not exist",
    ),
    "an encoder without a config": Bad(
        ENCODER, r"no config\.json; it needs the Hub's layout", build=without_a_config
    ),
    "an encoder with a broken config": Bad(
        ENCODER, r"can't be loaded from .*", build=with_a_broken_config
    ),
    "an encoder of an unknown family": Bad(
        ENCODER, r"can't be loaded from .*", build=with_an_unknown_family
    ),
    "an encoder of another size": Bad(ENCODER, r"can't be loaded from .*", build=with_other_sizes),
    "an encoder that lacks layers": Bad(
        ENCODER,
        r"its files lack \d+ weights, such as encoder\.layer\.4",
        build=with_more_layers_than_weights,
    ),
    "an encoder with foreign attention": Bad(
        ENCODER,
        r"asks for attention code from the Hub, which is not executed",
        build=with_foreign_attention,
    ),
    "not an encoder": Bad(
        ENCODER, r"is a t5 model, not a transformer encoder", build=of_another_kind
    ),
    "the encoder half of a model": Bad(
        ENCODER, r"the encoder half of a t5 model.*; use another encoder", build=of_half_a_model
    ),
    "weights of a wrapped model": Bad(
        ENCODER,
        r"named module\.\S+ and so on.*without 'module\.'.*save `\.module`",
        build=wrapped_for_several_gpus,
    ),
    "a sentencepiece model for a tokenizer": Bad(
        ENCODER,
        r"its tokenizer is in sentencepiece\.bpe\.model alone.*pip install sentencepiece",
        build=with_a_sentencepiece_model_only,
    ),
    "damaged weights": Bad(ENCODER, r"can't be loaded from .*", build=with_damaged_weights),
    "weights cut short": Bad(ENCODER, r"can't be loaded from .*", build=with_cut_weights),
    "a page of the Hub for an encoder": Bad(
        f"{RUN} --encoder https://huggingface.co/intfloat/multilingual-e5-small/tree/main",
        r"is an address; give a folder, or the id .* Hub: intfloat/multilingual-e5-small$",
    ),
    "an address for an encoder, in a setting": Bad(
        f"{RUN} --set model.encoder=hf://intfloat/multilingual-e5-small",
        r"is an address; give a folder, or the id .* Hub: intfloat/multilingual-e5-small$",
    ),
    "a bucket's address for an encoder": Bad(
        f"{RUN} --encoder s3://bucket/model",
        r"is an address; give a folder, or the id .* Hub: ORGANISATION/NAME$",
    ),
    "a run that is not there, as MLflow writes it": Bad(
        f"predict runs:/{'0' * 32} {{here}}/texts.csv",
        r"run 0+: not in this tracking store; give another with --tracking-uri",
        files={"texts.csv": "text\nhello\n"},
    ),
    "a part of a run for a model": Bad(
        f"predict runs:/{'0' * 32}/a/model {{here}}/texts.csv",
        r"give .* as its id or runs:/ID",
        files={"texts.csv": "text\nhello\n"},
    ),
    "weights of no bytes": Bad(ENCODER, r"can't be loaded from .*", build=with_empty_weights),
    "a pickle only": Bad(
        ENCODER,
        r"no \.safetensors file in the folder; pickled weights are not read",
        build=with_a_pickle_only,
    ),
    "no tokenizer": Bad(
        ENCODER, r"its tokenizer has \d tokens; are its files missing\?", build=without_a_tokenizer
    ),
    "a broken tokenizer": Bad(ENCODER, r"can't be loaded from .*", build=with_a_broken_tokenizer),
    "an index that leaves the folder": Bad(
        ENCODER,
        r"names '\.\./weights\.safetensors': only \.safetensors files beside it",
        build=with_an_index_that_leaves,
    ),
    "an index of pickles": Bad(
        ENCODER,
        r"names 'pytorch_model\.bin': only \.safetensors files beside it",
        build=with_an_index_of_pickles,
    ),
    "damaged weights, for a run": Bad(
        ENCODER.replace("plan", "run"), r"can't be loaded from .*", build=with_damaged_weights
    ),
    "damaged weights, for a sweep": Bad(
        f"{SWEEP} --set model.encoder={{here}}/encoder",
        r"can't be loaded from .*",
        build=with_damaged_weights,
    ),
    "damaged weights, for curves": Bad(
        f"{CURVES} --set model.encoder={{here}}/encoder",
        r"can't be loaded from .*",
        build=with_damaged_weights,
    ),
    # Stores
    "a store with a wrong scheme": Bad(
        f"{RUN} --tracking-uri nonsense://x",
        r"tracking store nonsense://x: nonsense: is no kind of address: known are http, ",
    ),
    "a store with Heroku's scheme": Bad(
        f"{RUN} --tracking-uri postgres://me:secret@host/x",
        r"store postgres://\*\*\*@host/x: postgres: is no kind .*did you mean 'postgresql'\?",
    ),
    "a server with one slash": Bad(
        f"{RUN} --tracking-uri http:/localhost:9", r"two slashes: http://localhost:9"
    ),
    "a server without its kind": Bad(
        f"{RUN} --tracking-uri localhost:9000", r"begins with its kind: http://localhost:9000"
    ),
    "a file with two slashes": Bad(
        f"{RUN} --tracking-uri sqlite://x.db", r"three slashes: sqlite:///x\.db"
    ),
    "a store that does not answer": Bad(
        f"{RUN} --tracking-uri http://127.0.0.1:9",
        r"tracking store http://127\.0\.0\.1:9: can't be used",
    ),
    "a store that is a folder": Bad(
        f"{RUN} --tracking-uri file:mlruns",
        r"tracking store file:///\S+/mlruns: MLflow no longer writes.*give a database, such as",
    ),
    "a store that is a folder by its path": Bad(
        f"{RUN} --tracking-uri {{here}}/mlruns",
        r"/mlruns: MLflow no longer .*give a database",
    ),
    "a store in memory": Bad(
        f"{RUN} --tracking-uri sqlite://", r"sqlite://: is in memory.*give a file, such as"
    ),
    "a store in memory by its name": Bad(
        f"{RUN} --tracking-uri sqlite:///:memory:", r":memory:: is in memory.*give a file"
    ),
    "a store that is a text file": Bad(
        f"{RUN} --tracking-uri sqlite:///{{corpus}}/train.csv",
        r"train\.csv: can't be used: file is not a database",
    ),
    "a store that is another database": Bad(
        f"{RUN} --tracking-uri sqlite:///{{here}}/other.db",
        r"a database of something else \(tables recipes\)",
        build=another_database,
    ),
    "a store below a file": Bad(
        f"{RUN} --tracking-uri sqlite:///{{corpus}}/train.csv/mlflow.db",
        r"can't be used: .*(Not a directory|File exists)",
    ),
    "a store where nobody may write": Bad(
        f"{RUN} --tracking-uri sqlite:////proc/mlflow.db", r"/proc/mlflow\.db: can't be used: "
    ),
    "a store with a password": Bad(
        f"{RUN} --tracking-uri mysql://me:secret@127.0.0.1:9/x",
        r"mysql://\*\*\*@127\.0\.0\.1:9/x: can't be used: (?!.*secret)",
    ),
    "a deleted experiment": Bad(
        f"{RUN} --experiment gone",
        r"experiment 'gone' was deleted: restore it with `mlflow experiments restore -x \d+`",
        build=a_deleted_experiment,
    ),
    "an experiment's name too long": Bad(
        f"{RUN} --experiment {'x' * 1000}", r"experiment 'xxx.*500"
    ),
    # Folders to write to
    "an export into a file": Bad(
        f"{RUN} --export {{corpus}}/train.csv",
        r"--export .*train\.csv is no folder; give another folder",
    ),
    "an export below a file": Bad(
        f"{RUN} --export {{corpus}}/train.csv/deep/models", r"--export .*train\.csv is no folder"
    ),
    "an export to a name too long": Bad(f"{RUN} --export {'a' * 300}", r"--export a+: .*too long"),
    "a sweep's folder that is a file": Bad(
        f"{SWEEP.replace('{here}/out', '{corpus}/train.csv')}", r"--out .*train\.csv is no folder"
    ),
    "a report's folder that is a file": Bad(
        "report --out {corpus}/train.csv", r"--out .*train\.csv is no folder"
    ),
    # Sweeps
    "an unknown space": Bad(f"{SWEEP} --space tua", r"unknown space 'tua': did you mean 'tau'\?"),
    "a space with a name too long": Bad(f"{SWEEP} --space {'a' * 300}", r"space a+: .*too long"),
    "a space that is no TOML": Bad(SPACE, r"space .*: not TOML", files=space("question = [")),
    "a space that is binary": Bad(SPACE, r"space .*: can't be read", files=space(b"\xff\0")),
    "a space with a number too long": Bad(
        SPACE, r"space .*: not TOML", files=space("a = " + "9" * 5000)
    ),
    "a space without fields": Bad(
        SPACE, r"space .*: fields: ", files=space("question = '?'\nfields = {}")
    ),
    "a space with an unknown field": Bad(
        SPACE,
        r"unknown field 'loss\.tua': did you mean 'loss\.tau'",
        files=space("question = '?'\n[fields.'loss.tua']\nlow = 1.0\nhigh = 2.0"),
    ),
    "a space with its ends exchanged": Bad(
        SPACE,
        r"low is above high",
        files=space("question = '?'\n[fields.'loss.tau']\nlow = 2.0\nhigh = 1.0"),
    ),
    "a space beyond what a field takes": Bad(
        SPACE,
        r"loss\.tau = -1\.0: .*greater than 0",
        files=space("question = '?'\n[fields.'loss.tau']\nlow = -1.0\nhigh = 1.0"),
    ),
    "a space deeper than the encoder": Bad(
        SPACE,
        r"model\.freeze_layers = 9: the encoder has 4 layers",
        files=space(
            "question = '?'\nvariant = 'mse+ft'\n[fields.'model.freeze_layers']\nlow = 0\nhigh = 9"
        ),
    ),
    "an unknown sampler": Bad(
        f"{SWEEP} --sampler tpee", r"unknown sampler 'tpee': did you mean 'tpe'"
    ),
    "an unknown pruner": Bad(
        f"{SWEEP} --pruner x", r"unknown pruner 'x': known are hyperband, median, none"
    ),
    "an unknown objective": Bad(
        f"{SWEEP} --objective loss", r"unknown objective 'loss': known are pearson"
    ),
    "no trials": Bad(f"{SWEEP} --trials 0", r"trials must be at least 1"),
    "too many trials": Bad(f"{SWEEP} --trials 9000000000", r"trials must be at most 100000"),
    "no workers": Bad(f"{SWEEP} --workers 0", r"workers must be at least 1"),
    "too many workers": Bad(f"{SWEEP} --workers 100000", r"workers must be at most 256"),
    "a sampler's negative seed": Bad(
        f"{SWEEP} --seed -1", r"--seed -1: give a whole number from 0"
    ),
    "a sampler's huge seed": Bad(
        f"{SWEEP} --seed 99999999999", r"--seed 99999999999: give a whole number from 0"
    ),
    "a negative timeout": Bad(f"{SWEEP} --timeout -1", r"--timeout -1: give seconds, or 0"),
    "a timeout that is nan": Bad(f"{SWEEP} --timeout nan", r"--timeout nan: give seconds"),
    "a study's name with quotation marks": Bad(
        f"{SWEEP} --study o'neill", r"--study .*no quotation marks"
    ),
    "a sweep's wrong split": Bad(f"{SWEEP} --split dev9", r"unknown split 'dev9'"),
    "seeds a, after a sweep": Bad(
        f"{SWEEP} --space variants --then-seeds a", r"seeds 'a': give whole numbers"
    ),
    "variants for two objectives": Bad(
        f"{SWEEP} --space variants --objective pearson,seconds",
        r"variants are tuned for pearson alone",
    ),
    "a bench of too few rows to time": Bad(
        "bench --only frozen --profile smoke --rows 48",
        r"bench: 48 rows to train on, of which the first 64 are not timed",
    ),
    "a storage with a wrong scheme": Bad(
        f"{SWEEP} --storage nonsense://x",
        r"storage nonsense://x: can't be used: nonsense: is no kind",
    ),
    "a setting that the space tunes": Bad(
        f"{SWEEP} --space tau --set loss.tau=0.1",
        r"--set loss\.tau: the space tau tunes it; leave it out",
    ),
    "a spool that is not there": Bad(
        "sync --spool {here}/spool", r"--spool .*/spool: there is no such folder"
    ),
    "a spool that is a file": Bad(
        "sync --spool {corpus}/train.csv", r"--spool .*train\.csv: there is no such folder"
    ),
    "a storage in memory": Bad(
        SWEEP.replace("sqlite:///{here}/studies.db", "sqlite://"),
        r"storage sqlite://: is in memory, where nothing is kept: give a file",
    ),
    "a storage in memory by its name": Bad(
        SWEEP.replace("sqlite:///{here}/studies.db", "sqlite:///:memory:"),
        r"storage sqlite:///:memory:: is in memory",
    ),
    "a registered model's name with a slash": Bad(
        f"{RUN} --register team/model", r"--register 'team/model': give a name without slashes"
    ),
    "a champion's name with a quotation mark": Bad(
        "register --name o'neill", r"--name .*: give a name without slashes, colons and quotation"
    ),
    "a storage that is a text file": Bad(
        f"{SWEEP} --storage sqlite:///{{corpus}}/train.csv",
        r"train\.csv: can't be used: file is not a database",
    ),
    "a storage that is the tracking store": Bad(
        f"{SWEEP} --storage {{store}}", r"a database of something else"
    ),
    "a storage below a file": Bad(
        f"{SWEEP} --storage journal:{{corpus}}/train.csv/x.log",
        r"storage journal:.*: can't be used: ",
    ),
    "a storage that is a text file, as a journal": Bad(
        f"{SWEEP} --storage journal:{{corpus}}/train.csv", r"storage journal:.*: can't be used: "
    ),
    # Curves
    "an unknown figure": Bad(f"{CURVES} --figures 6", r"--figures 6: known are 4, 5"),
    "no figure": Bad(f"{CURVES} --figures ,", r"--figures \(nothing\): known are 4, 5"),
    "an unknown reading": Bad(
        f"{CURVES} --signs repel", r"--signs repel: known are as_printed, attract"
    ),
    "a temperature of 0": Bad(
        f"{CURVES} --taus 0,0.2", r"--taus '0,0\.2': give temperatures above 0"
    ),
    "a temperature that is a word": Bad(
        f"{CURVES} --taus warm", r"--taus 'warm': give temperatures above 0"
    ),
    "an endless temperature": Bad(
        f"{CURVES} --taus inf", r"--taus 'inf': give temperatures above 0"
    ),
    "curves on two splits": Bad(
        f"{CURVES} --split dev1,dev2", r"a curve study trains on one split"
    ),
    "curves on an unknown split": Bad(
        f"{CURVES} --split dev3", r"unknown split 'dev3': did you mean"
    ),
    "curves with a wrong report": Bad(
        f"{CURVES} --report no", r"--report 'no': .*give true, false or nothing"
    ),
    # Reports
    "an unknown experiment": Bad(
        "report --experiment nowhere", r"no experiment 'nowhere' in .*: known are Default"
    ),
    "an experiment of an unknown id": Bad("report --experiment 77", r"no experiment '77' in "),
    "an experiment without runs": Bad(
        "report",
        r"experiment 'ablation' has no run of an ablation; `ablation run` makes some",
        build=an_experiment_without_runs,
    ),
    "a report on a store that is not there": Bad(
        "report --tracking-uri sqlite:///{here}/no.db",
        r"no\.db: there is no such file; give --tracking-uri",
    ),
    "a report of a bundle that is not there": Bad(
        "report --pool some", r"some: there is no such file"
    ),
    "a check of no report": Bad(
        "report --verify --out {here}/nowhere", r"nowhere: holds no finished report"
    ),
    "a check of a damaged report": Bad(
        "report --verify --out {here}/r",
        r"r: holds no finished report",
        files={"r/numbers.json": "{"},
    ),
    "a check of a report of another kind": Bad(
        "report --verify --out {here}/r",
        r"r: holds no finished report",
        files={"r/numbers.json": '{"choice": {}, "runs": []}'},
    ),
    # What the parser of the command line finds
    "an unknown option": Bad("run --tua 0.1", r"No such option: --tua.*; see ablation run --help"),
    "an option without a value": Bad("run --seeds", r"Option '--seeds' requires an argument"),
    "not a whole number": Bad(
        "report --group x",
        r"Invalid value for '--group': .*valid integer.*; see ablation report --help",
    ),
    "not a number": Bad("sweep --timeout soon", r"Invalid value for '--timeout': .*valid number"),
    "an unknown command": Bad("rnu", r"unknown command 'rnu': did you mean 'run'"),
    "an argument too many": Bad("data demo demo", r"give one corpus, or `data init demo`"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = ("en", "es", "fr", "zh")
    folder = tmp_path_factory.mktemp("good") / "corpus"
    return write_corpus(folder, some_rows(20, seen), some_rows(6, (*seen, "ko"), start=100))


@pytest.fixture
def answer(
    tmp_path: Path,
    store_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in a folder and with a store of its own: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ablation", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def lay_out(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def everything_in(folder: Path) -> dict[str, int]:
    """Paths and sizes, without the store itself."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else 0
        for path in folder.rglob("*")
        if not path.name.lstrip(".").startswith("mlflow.db")
    }


def tracked(uri: str) -> tuple[list[str], int]:
    """Names of the experiments, and the number of runs."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        names = sorted(name for (name,) in connection.execute("select name from experiments"))
        return names, int(connection.execute("select count(*) from runs").fetchone()[0])


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 80


@pytest.mark.parametrize("case", TABLE)
def test_a_wrong_input_gives_clear_lines_its_exit_code_and_leaves_nothing(
    case: str,
    answer: Callable[..., tuple[int, str, str]],
    good: Path,
    tmp_path: Path,
    store_uri: str,
) -> None:
    bad = TABLE[case]
    lay_out(tmp_path, bad.files or {})
    if bad.build:
        bad.build(tmp_path)
    before, tracked_before = everything_in(tmp_path), tracked(store_uri)
    code, out, err = answer(
        *(a.format(here=tmp_path, corpus=good, store=store_uri) for a in bad.arguments.split(" "))
    )
    lines = err.splitlines()
    assert code == bad.code, err
    assert lines
    assert all(
        line.startswith("ablation: ") and len(line) <= len("ablation: ") + LONGEST_LINE
        for line in lines
    ), err
    assert re.search(bad.message, err), err
    assert "Traceback" not in out + err
    assert tracked(store_uri) == tracked_before
    assert everything_in(tmp_path) == before


def test_a_failure_that_nobody_foresaw_is_one_line_and_exit_code_1(
    answer: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(where: str, target: str) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("ablation.data.corpus.load_corpus", fail)
    code, out, err = answer("data")
    assert (code, out) == (1, "")
    assert err == "ablation: ZeroDivisionError: first line (ablation --debug ... shows where)\n"


def test_a_folder_that_may_not_be_written_to_is_said_before_any_work(
    answer: Callable[..., tuple[int, str, str]],
    good: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Told so, since the tests may run as root, who may write everywhere.
    monkeypatch.setattr("ablation.cli.console.os.access", lambda place, mode: False)
    code, _, err = answer(*f"run --data {good} --profile smoke --export models".split())
    assert code == 2
    assert (
        err == f"ablation: --export models: {tmp_path} can't be written to; give another folder\n"
    )


RIGHT: dict[str, tuple[bytes, str]] = {
    "CRLF": (GOOD.replace("\n", "\r\n").encode(), "fr words 19"),
    "quoted newlines": (GOOD.encode() + b'"line one\nline two",2,en\n', "line one\nline two"),
    "quoted newlines with CRLF": (
        GOOD.replace("\n", "\r\n").encode() + b'"one\r\ntwo",2,en\r\n',
        "one\r\ntwo",
    ),
    "quotation marks and commas": (
        GOOD.encode() + b'"he said ""hi"", once",2,en\n',
        'he said "hi", once',
    ),
    "a byte-order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "fr words 19"),
    "no last newline": (GOOD.rstrip("\n").encode(), "fr words 19"),
    "a path for a text": (GOOD.encode() + b"../../etc/passwd,2,en\n", "../../etc/passwd"),
    "a formula for a text": (GOOD.encode() + b"=1+1,2,en\n", "=1+1"),
    "a long text": (GOOD.encode() + b"a" * 100_000 + b",2,en\n", "a" * 100_000),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_looks_odd_and_is_right_is_read_as_it_is_meant(
    case: str, answer: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    content, last = RIGHT[case]
    lay_out(tmp_path, {"corpus/train.csv": content})
    code, out, err = answer("data", "corpus")
    assert (code, err) == (0, "")
    assert "Labelled rows by intimacy" in out
    frame = load_corpus("corpus").train
    assert frame["text"].iloc[-1] == last
    assert len(frame) == 40 + (last != "fr words 19")


ANY_BYTES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
#: Files that begin as they should reach further than random bytes do.
TOML = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"[loss]\n",
            b"[tuning]\n",
            b"[variant.mse.loss]\n",
            b"[variant]\n",
            b"[fields.'loss.tau']\n",
        ]
    ).flatmap(
        lambda head: st.sampled_from([b"", b"tau = ", b"low = ", b"choices = "]).flatmap(
            lambda field: st.binary(max_size=30).map(
                lambda value: b"question = '?'\n" + head + field + value
            )
        )
    ),
)


@ANY_BYTES
@given(train=st.binary(max_size=300), test=st.binary(max_size=300), cut=st.integers(0, len(GOOD)))
def test_whatever_the_files_hold_reading_them_never_breaks(
    tmp_path: Path, train: bytes, test: bytes, cut: int
) -> None:
    (tmp_path / "train.csv").write_bytes(GOOD.encode()[:cut] + train)
    (tmp_path / "test.csv").write_bytes(HEADER.encode() + test)
    with contextlib.suppress(UsageError):
        load_corpus(str(tmp_path))


@ANY_BYTES
@given(content=TOML)
def test_whatever_a_profile_or_a_space_holds_reading_it_never_breaks(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "any.toml"
    file.write_bytes(content)
    with contextlib.suppress(UsageError):
        resolve_config(load_profile(str(file)), "mse")
    with contextlib.suppress(UsageError):
        load_tuning(str(file))
    with contextlib.suppress(UsageError):
        load_space(str(file))


@ANY_BYTES
@given(
    text=st.text(max_size=60)
    | st.from_regex(r"(dev[12]|mse|epm|[:+,a-z=.0-9-]){0,8}", fullmatch=True)
)
def test_whatever_an_argument_says_reading_it_never_breaks(good: Path, text: str) -> None:
    with contextlib.suppress(UsageError):
        TABLE_3.select(split_list(text))
    with contextlib.suppress(UsageError):
        resolve_config(parse_overrides([text]))
    with contextlib.suppress(UsageError):
        select_splits(split_list(text), load_corpus(str(good)), 0)
    for load in (load_profile, load_space):
        with contextlib.suppress(UsageError):
            load(f"{text}?")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_explained(name: str) -> None:
    for load in (load_corpus, load_profile, load_space):
        with pytest.raises(UsageError):
            load(name)
