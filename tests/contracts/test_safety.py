"""Nothing from an encoder, checkpoint or name is executed; no name leads out of its folder."""

import json
import pickle
import re
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from rich.console import Console

from ablation.cli.main import main
from ablation.core.errors import UsageError
from ablation.core.identity import RunKey
from ablation.encoders.loading import load_encoder
from ablation.encoders.sources import encoder_digest
from ablation.encoders.tiny import tiny_encoder
from ablation.models.exported import LoadedModel, read_model, write_model
from ablation.runs.progress import Progress
from ablation.runs.reproducer import BATCH, STATE, WEIGHTS, repeat
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking.sources import StoreSource
from ablation.tracking.store import experiment_id, open_store
from ablation.training.model import build_model
from reports.analysis.collect import Experiment
from reports.build import folder_for
from studies.storage import lock_file
from studies.study import SweepRequest, folder_name


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that malicious code would leave behind."""
    return tmp_path / "executed"


@pytest.fixture
def hostile(tmp_path: Path, marker: Path) -> Path:
    """An encoder whose weights and tokenizer are good, with everything malicious beside them."""
    folder = tmp_path / "hostile"
    shutil.copytree(tiny_encoder(), folder)
    bomb = pickle.dumps(Bomb(marker))
    for name in (
        "pytorch_model.bin",
        "model.pkl",
        "tokenizer.pkl",
        "training_args.bin",
        "optimizer.pt",
        "head.bin",
        "vocab.pkl",
    ):
        (folder / name).write_bytes(bomb)
    torch.save({"weight": Bomb(marker)}, folder / "model.pt")
    code = f"open({str(marker)!r}, 'w')\nclass Evil: pass\n"
    for name in (
        "modeling_evil.py",
        "configuration_evil.py",
        "tokenization_evil.py",
        "__init__.py",
        "sitecustomize.py",
    ):
        (folder / name).write_text(code)
    maps = {
        "config.json": {"AutoModel": "modeling_evil.Evil", "AutoConfig": "configuration_evil.Evil"},
        "tokenizer_config.json": {
            "AutoTokenizer": ["tokenization_evil.Evil", "tokenization_evil.Evil"]
        },
    }
    for name, auto_map in maps.items():
        (folder / name).write_text(
            json.dumps(json.loads((folder / name).read_text()) | {"auto_map": auto_map})
        )
    assert not marker.exists()
    return folder


def test_the_bomb_is_one(marker: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(marker))).close()
    assert marker.exists()


def test_a_good_encoder_with_malicious_files_beside_it_runs_none_of_them(
    hostile: Path, marker: Path
) -> None:
    encoder_digest(str(hostile))
    loaded = load_encoder(str(hostile))
    assert torch.equal(
        next(loaded.model.parameters()), next(load_encoder("tiny").model.parameters())
    )
    assert not marker.exists()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_an_index_of_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": "pytorch_model.bin"}})
    )


def with_a_pickle_called_safetensors(folder: Path) -> None:
    shutil.copy(folder / "pytorch_model.bin", folder / "model.safetensors")


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def of_a_family_that_only_its_code_knows(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "evil", "architectures": ["Evil"]})
    )


def with_attention_from_the_hub(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"attn_implementation": "kernels-community/evil"})
    )


@pytest.mark.parametrize(
    "spoil",
    [
        without_weights,
        with_an_index_of_pickles,
        with_a_pickle_called_safetensors,
        without_a_tokenizer,
        of_a_family_that_only_its_code_knows,
        with_attention_from_the_hub,
    ],
)
def test_a_folder_that_could_only_be_loaded_by_running_it_is_refused(
    spoil: Callable[[Path], None], hostile: Path, marker: Path
) -> None:
    spoil(hostile)
    with pytest.raises(UsageError) as error:
        load_encoder(str(hostile))
    assert len(error.value.problems) == 1
    assert not marker.exists()


@pytest.mark.parametrize(
    "planted", ["2_Dense/model.safetensors", "model.safetensors", "intimacy.json", "modules.json"]
)
def test_a_pickle_planted_in_an_exported_model_is_not_read(
    planted: str, tmp_path: Path, marker: Path
) -> None:
    encoder = load_encoder("tiny")
    model = build_model(encoder.model, "mean", dropout=None, label_mean=2.0, seed=0)
    write_model(tmp_path / "model", LoadedModel(model, encoder.tokenizer, 64, "", None))
    read_model(tmp_path / "model")
    (tmp_path / "model" / planted).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(UsageError):
        read_model(tmp_path / "model")
    assert not marker.exists()


def test_a_pickle_planted_as_a_reproducer_is_not_read(tmp_path: Path, marker: Path) -> None:
    (tmp_path / BATCH).write_text("{}")
    for name in (WEIGHTS, STATE):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(UsageError, match="holds no reproducer"):
        repeat(tmp_path)
    assert not marker.exists()


#: What a driver and its own workers send each other, in a folder or cluster that is the user's.
WORKERS = {"executors/worker.py", "executors/slurm.py"}


def test_no_module_reads_pickles() -> None:
    root = Path(__file__).resolve().parents[2]
    for package in ("ablation", "studies", "reports"):
        for file in (root / package).rglob("*.py"):
            if file.relative_to(root / package).as_posix() in WORKERS:
                continue
            text = file.read_text("utf-8")
            for word in (
                "pickle.load",
                "torch.load(",
                "read_pickle",
                "joblib",
                "allow_pickle=True",
                "trust_remote_code=True",
            ):
                assert word not in text, f"{file}: {word}"


ESCAPES = [
    "../../out",
    "/tmp/out",
    "..",
    "a/../../../out",
    "~/out",
    "C:\\out",
    ".",
    "a\nb",
    "日本/../../x",
    "x" * 600,
]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_leads_to_one_folder_below_the_one_it_belongs_in(
    name: str, store_uri: str, tmp_path: Path
) -> None:
    store = open_store(store_uri)
    for folder in (
        Path(folder_name(SweepRequest(study=name))),
        Path(folder_name(SweepRequest(space=name, data=name, profile=name))),
        folder_for(Experiment(StoreSource(store, "0", name), (), (), None)),
    ):
        assert len(folder.parts) == 1
        assert folder.parts[0] not in ("..", ".")
        assert (tmp_path / folder).resolve().parent == tmp_path
        assert len(folder.name) < 120
    if len(name) < 500:
        artifacts = Path(
            store.client.get_experiment(experiment_id(store, name)).artifact_location.removeprefix(
                "file://"
            )
        )
        assert artifacts.parent == tmp_path / "mlruns"


def test_locks_stand_beside_what_they_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lock_file(f"sqlite:///{tmp_path}/a/studies.db") == tmp_path / "a" / "studies.db.lock"
    assert lock_file("journal:~/study.log") == tmp_path / "study.log.take.lock"
    assert ".." not in lock_file("mysql://host/../../x").name


def test_a_sweep_with_a_name_that_climbs_writes_below_its_folder(
    small_corpus: Path, store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "deep" / "here"
    here.mkdir(parents=True)
    before = {path for path in tmp_path.rglob("*") if here not in path.parents}
    monkeypatch.chdir(here)
    arguments = [
        "--space",
        "lr",
        "--study",
        "a/../../../escaped",
        "--trials",
        "1",
        "--pruner",
        "none",
        "--profile",
        "smoke",
    ]
    more = [
        "--data",
        str(small_corpus),
        "--set",
        "optimisation.epochs=1",
        "--tracking-uri",
        store_uri,
    ]
    monkeypatch.setattr(
        sys, "argv", ["ablation", "sweep", *arguments, *more, "--storage", "sqlite:///studies.db"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert (here / "study-a-..-..-..-escaped" / "best.toml").is_file()
    after = {
        path
        for path in tmp_path.rglob("*")
        if here not in path.parents and "mlruns" not in path.parts
    }
    assert {path.name for path in after - before} <= {
        ".mlflow.db.lock",
        "mlflow.db-wal",
        "mlflow.db-shm",
    }


class Ports(Progress):
    """Notes where this process and its children listen while runs are trained."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.seen: list[set[str]] = []

    def epoch(self, key: RunKey, epoch: int, scores: Mapping[str, float]) -> None:
        super().epoch(key, epoch, scores)
        me = psutil.Process()
        connections = [
            c for p in (me, *me.children(recursive=True)) for c in p.net_connections("inet")
        ]
        self.seen.append({c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN})


def test_training_listens_nowhere(small_corpus: Path, store_uri: str) -> None:
    asked = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse",),
        splits=("dev1",),
        tracking_uri=store_uri,
    )
    ports = Ports()
    with socket.create_server(("127.0.0.1", 0)):
        run_plan(resolve_run(asked), ports)
    assert ports.seen == [{"127.0.0.1"}] * 2, (
        "the test's own socket, which shows that they are seen"
    )
    run_plan(resolve_run(replace(asked, fresh=True)), ports)
    assert ports.seen[2:] == [set()] * 2


def test_what_this_suite_starts_listens_on_loopback_alone() -> None:
    root = Path(__file__).resolve().parents[2]
    for package in ("ablation", "studies", "reports"):
        for file in (root / package).rglob("*.py"):
            text = file.read_text("utf-8")
            for word in ("0.0.0.0", "http.server", "socketserver", ".listen(", "uvicorn"):
                assert word not in text, f"{file}: {word}"
            for host in re.findall(r"\"--host\",\s*\"([^\"]*)\"", text):
                assert host == "127.0.0.1", file  # the server that `ablation bench` starts
    assert "0.0.0.0" not in (root / "MLproject").read_text("utf-8") + (
        root / "README.md"
    ).read_text("utf-8")
