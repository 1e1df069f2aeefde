"""Machines that share only servers: each run is trained once, each trial done once."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ablation.tracking import names
from ablation.tracking.store import open_store
from tests.commands import Command
from tests.executors.postgres import Postgres, find_binaries
from tests.executors.test_runs import arguments, corpus, runs_of  # noqa: F401
from tests.tracking.servers import Server, serve


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = serve(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    if find_binaries() is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    postgres = Postgres()
    yield postgres
    postgres.close()


@pytest.fixture
def team_server(postgres: Postgres, tmp_path: Path) -> Iterator[Server]:
    """A tracking server as a team has it, on PostgreSQL."""
    server = serve(tmp_path, database=postgres.create_database("mlflow"))
    yield server
    server.kill()


def machine(folder: Path, name: str) -> tuple[Path, dict[str, str]]:
    """A current folder and variables with a state folder of its own."""
    (folder / name).mkdir()
    return folder / name, {"ABLATION_STATE": str(folder / name / "state")}


def started(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    """A command on another machine, in namespaces of its own; all have one host name."""
    inside = f'hostname machine && exec {sys.executable} -m ablation "$@"'
    namespaces = ("--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    process = subprocess.Popen(
        ["unshare", *namespaces, "sh", "-c", inside, "sh", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    return process


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Return the command's output until `text`, or until it has ended."""
    seen = []
    assert process.stdout
    for line in process.stdout:
        seen.append(line)
        if text and text in line:
            return "".join(seen)
    assert not text, "".join(seen)
    return "".join(seen)


def can_make_machines() -> bool:
    command = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "true"]
    return sys.platform == "linux" and subprocess.run(command, capture_output=True).returncode == 0


def test_two_machines_with_one_server_train_every_run_once(
    corpus: Path,  # noqa: F811
    server: Server,
    tmp_path: Path,
) -> None:
    machines = [machine(tmp_path, name) for name in ("a", "b")]
    commands = [Command(arguments(corpus, server.uri, epochs=6), *place) for place in machines]
    texts = ["".join(command.communicate()) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], "\n".join(texts)
    found = runs_of(open_store(server.uri))
    assert Counter(key for key, _, _ in found) == {
        (variant, seed): 1 for variant in ("mse", "epm+ft", "ensemble") for seed in ("0", "1")
    }
    assert {status for _, status, _ in found} == {"FINISHED"}


@pytest.mark.soak
@pytest.mark.skipif(not can_make_machines(), reason="this user can't make namespaces")
def test_a_machine_that_vanishes_loses_its_run_to_the_other(
    corpus: Path,  # noqa: F811
    team_server: Server,
    tmp_path: Path,
) -> None:
    suite = arguments(corpus, team_server.uri, epochs=300)
    a, b = (machine(tmp_path, name) for name in ("a", "b"))
    gone = started(suite, *a)
    read_until(gone, "epoch 2/300")
    # Of the same host name and with processes of the same numbers, and yet another machine.
    read_until(started(["doctor", "--tracking-uri", team_server.uri], *b), "")
    assert "KILLED" not in {status for _, status, _ in runs_of(open_store(team_server.uri))}
    other = started(suite, *b)
    read_until(other, "another process is training it")
    gone.send_signal(signal.SIGKILL)
    gone.wait()
    text = read_until(other, "")
    assert other.wait() == 0, text
    found = runs_of(open_store(team_server.uri))
    assert Counter(status for _, status, _ in found) == {"FINISHED": 6, "KILLED": 1}
    assert len({key for key, status, _ in found if status == "FINISHED"}) == 6


@pytest.mark.soak
@pytest.mark.skipif(not can_make_machines(), reason="this user can't make namespaces")
def test_a_sweep_of_two_machines_one_of_which_is_killed_does_every_trial_once(
    corpus: Path,  # noqa: F811
    team_server: Server,
    postgres: Postgres,
    tmp_path: Path,
) -> None:
    storage = postgres.create_database("optuna")
    command = [
        *("sweep", "--space", "lr", "--trials", "12", "--data", str(corpus), "--profile", "smoke"),
        *("--study", "shared", "--pruner", "none", "--then-seeds", "none"),
        *("--set", "optimisation.epochs=20"),
        *("--storage", storage, "--tracking-uri", team_server.uri),
    ]
    a, b = (machine(tmp_path, name) for name in ("a", "b"))
    gone = started(command, *a)
    read_until(gone, "trial 0: ")
    other = started(command, *b)
    read_until(other, "trial ")
    gone.send_signal(signal.SIGKILL)
    gone.wait()
    text = read_until(other, "")
    assert other.wait() == 0, text
    study = optuna.load_study(study_name="shared", storage=storage)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(complete) == 12
    assert len({str(sorted(trial.params.items())) for trial in complete}) == 12
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    store = open_store(team_server.uri)
    experiments = [e.experiment_id for e in store.client.search_experiments()]
    runs = store.client.search_runs(experiments, f"tags.`{names.KIND}` = '{names.STUDY}'")
    assert len(runs) == 1
    print(text, dict(Counter(trial.state.name for trial in study.get_trials())))
