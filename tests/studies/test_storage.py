"""Storages of studies that are torn, lost, or can't be opened."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from ablation.core.errors import UsageError
from studies.storage import (
    default_url,
    lock_file,
    open_storage,
    repair_journal,
    storage_failure,
)

ENTRIES = [b'{"op_code":0,"worker_id":"a"}', b'{"op_code":4,"worker_id":"b"}']


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b"\n".join([*ENTRIES, b""]), ENTRIES),
        (b"\n".join([*ENTRIES, b'{"op_code":5,"wor']), ENTRIES),
        (b"\n".join([ENTRIES[0], b'{"op_code":5,"wor' + ENTRIES[1], b""]), ENTRIES),
        (b'{"op_c', []),
        (b"", []),
    ],
    ids=["whole", "torn", "written on behind a torn one", "nothing but torn", "empty"],
)
def test_a_torn_entry_is_cut_off_and_no_other(
    journal: Path, content: bytes, kept: list[bytes]
) -> None:
    journal.write_bytes(content)
    repair_journal(journal)
    assert journal.read_bytes() == b"".join(entry + b"\n" for entry in kept)
    torn = journal.with_name("journal.log.torn")
    assert torn.is_file() == (content != journal.read_bytes())
    if torn.is_file():
        assert torn.read_bytes() == content


def test_a_line_that_is_no_entry_is_named(journal: Path) -> None:
    journal.write_bytes(ENTRIES[0] + b"\nnot an entry\n" + ENTRIES[1] + b"\n")
    with pytest.raises(UsageError, match=r"journal\.log: can't be used: line 2 of the journal"):
        open_storage(f"journal:{journal}")


def test_a_study_goes_on_in_a_journal_that_was_torn(journal: Path) -> None:
    url = f"journal:{journal}"
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    again = optuna.load_study(study_name="s", storage=open_storage(url))
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert len(again.trials) == 4
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_lost_storage_is_found_behind_other_errors() -> None:
    def lost() -> None:
        try:
            try:
                raise ConnectionError("server closed the connection at me:pw@host")
            except ConnectionError as error:
                raise StorageInternalError("An exception is raised") from error
        except StorageInternalError:
            raise UnboundLocalError("updated_state")  # noqa: B904

    with pytest.raises(UnboundLocalError) as error:
        lost()
    assert storage_failure(error.value) == "server closed the connection at me:pw@host"
    assert storage_failure(ValueError("of something else")) == ""


def test_a_lost_tracking_database_is_no_lost_storage(tmp_path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path))
    store.engine.dispose()
    (tmp_path / "mlflow.db").write_bytes(b"no database " * 100)

    def objective(trial: optuna.Trial) -> float:
        store.search_experiments()
        return 0.0

    with pytest.raises(Exception, match="not a database") as error:
        optuna.create_study().optimize(objective, n_trials=1)
    assert storage_failure(error.value) == ""


def test_a_missing_driver_is_named_with_its_package() -> None:
    pytest.importorskip("sqlalchemy")
    with pytest.raises(UsageError) as error:
        open_storage("postgresql+no_such_driver://me:secret@host/db")
    assert "secret" not in str(error.value)
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(UsageError, match=r"psycopg is not installed: pip install 'psycopg\["):
            open_storage("postgresql+psycopg://me:secret@host/db")


def test_the_lock_of_a_database_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    file = lock_file("postgresql://host/db")
    assert file.is_relative_to(tmp_path / "state")
    assert file == lock_file("postgresql://host/db")
    assert file != lock_file("postgresql://host/other")


def test_studies_stand_beside_the_store_whatever_its_folder_is_called(tmp_path: Path) -> None:
    from ablation.tracking.uris import sqlite_file, sqlite_uri

    store = tmp_path / "a?b" / "mlflow.db"
    assert sqlite_file(default_url(sqlite_uri(store))) == store.with_name("studies.db")
