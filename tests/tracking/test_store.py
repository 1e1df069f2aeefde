"""Opening stores: their address, their creation, and refusals in one line."""

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ablation.core.errors import UsageError
from ablation.tracking import names
from ablation.tracking.reading import has_all_artifacts, read_json, read_runs
from ablation.tracking.runs import start_run
from ablation.tracking.store import experiment_id, find_experiment, open_store
from ablation.tracking.uris import absolute_uri
from tests.commands import fork_context


def test_without_any_uri_the_store_is_mlflows_own_default_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store().uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_environment_names_the_store(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    assert open_store().uri == store_uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///x.db", "sqlite:///{cwd}/x.db"),
        ("sqlite:////data/x.db", "sqlite:////data/x.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("runs", "{cwd}/runs"),
    ],
)
def test_relative_places_become_absolute(
    uri: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri(uri) == expected.format(cwd=tmp_path)


def test_processes_that_start_at_once_make_one_whole_store(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=fork_context()) as pool:
        answers = list(pool.map(_experiment_of, [f"sqlite:///{tmp_path}/new.db"] * 4))
    assert len(set(answers)) == 1


def _experiment_of(uri: str) -> str:
    return experiment_id(open_store(uri), "e")


def test_what_a_killed_process_was_in_the_middle_of_writing_is_rolled_back(
    store_uri: str, tmp_path: Path
) -> None:
    made = experiment_id(open_store(store_uri), "before")
    script = (
        "import os, signal, sqlite3, sys\n"
        "writer = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "writer.execute('pragma cache_size = 1')\n"  # so that it writes before it is asked to
        "writer.execute('begin immediate')\n"
        "writer.execute('create table half (text)')\n"
        "writer.executemany('insert into half values (?)', [('x' * 1000,)] * 2000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script, tmp_path / "mlflow.db"]).returncode
        == -signal.SIGKILL
    )
    assert (tmp_path / "mlflow.db-journal").stat().st_size > 0
    store = open_store(store_uri)
    assert find_experiment(store, "before") == made == experiment_id(store, "before")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert not connection.execute("select * from sqlite_master where name = 'half'").fetchall()


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////proc/no/such/x.db"])
def test_an_unusable_store_gives_one_line(uri: str) -> None:
    with pytest.raises(UsageError, match="tracking store") as error:
        open_store(uri)
    assert len(error.value.problems) == 1


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is not a database, whatever its name says" * 100)
    with pytest.raises(UsageError, match="can't be used"):
        open_store(f"sqlite:///{tmp_path}/x.db")


def test_artifacts_of_a_local_store_lie_beside_it_whatever_the_experiment_is_called(
    store_uri: str, tmp_path: Path
) -> None:
    store = open_store(store_uri)
    made = store.client.get_experiment(experiment_id(store, "../../etc/évil name"))
    assert made.artifact_location.startswith(f"file://{tmp_path}/mlruns/")
    assert ".." not in made.artifact_location


def test_an_experiment_is_made_once_and_found_again(store_uri: str) -> None:
    store = open_store(store_uri)
    assert find_experiment(store, "mine") is None
    assert (
        experiment_id(store, "mine")
        == experiment_id(store, "mine")
        == find_experiment(store, "mine")
    )


def test_a_deleted_experiment_is_named(store_uri: str) -> None:
    store = open_store(store_uri)
    store.client.delete_experiment(experiment_id(store, "gone"))
    with pytest.raises(UsageError, match="'gone' was deleted"):
        experiment_id(store, "gone")


def test_a_plan_and_a_report_refuse_a_deleted_experiment_as_a_run_does(store_uri: str) -> None:
    store = open_store(store_uri)
    store.client.delete_experiment(experiment_id(store, "gone"))
    with pytest.raises(UsageError, match=r"'gone' was deleted: restore it with .* -x \d+`"):
        find_experiment(store, "gone")
    assert find_experiment(store, "never there") is None


def test_a_store_that_was_moved_is_read_where_it_is_and_not_written(
    store_uri: str, tmp_path: Path
) -> None:
    store = open_store(store_uri)
    run = start_run(store, experiment_id(store, "mine"), "r", {names.KIND: names.RUN})
    run.log_json(names.RECORD_FILE, {"a": 1})
    run.end("FINISHED")
    file = Path(store_uri.removeprefix("sqlite:///"))
    (tmp_path / "new home").mkdir()
    for part in ("mlflow.db", "mlruns"):
        (file.parent / part).rename(tmp_path / "new home" / part)
    moved = open_store(f"sqlite:///{tmp_path / 'new home' / 'mlflow.db'}")
    experiment = find_experiment(moved, "mine")
    assert experiment is not None
    (row,) = read_runs(moved, experiment, [names.RUN])
    assert has_all_artifacts(moved, row.run_id, row.tags[names.MANIFEST])
    assert read_json(moved, row.run_id, names.RECORD_FILE) == {"a": 1}
    with pytest.raises(UsageError, match=r"moved or copied, .* give another --experiment"):
        experiment_id(moved, "mine")
    assert experiment_id(moved, "another")


@pytest.mark.parametrize("name", [" mine", "mine ", "mine\n"])
def test_outer_spaces_of_an_experiments_name_are_refused(name: str, store_uri: str) -> None:
    with pytest.raises(UsageError, match="without spaces around it"):
        experiment_id(open_store(store_uri), name)


def test_a_store_of_another_mlflow_version_is_refused(store_uri: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("update alembic_version set version_num = 'another'")
        connection.commit()
    with pytest.raises(UsageError, match="can't be used"):
        open_store(store_uri)
