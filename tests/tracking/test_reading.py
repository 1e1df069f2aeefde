"""What is read from a SQLite store's tables is what MLflow's client gives."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ablation.core.errors import UsageError
from ablation.tracking import names, tables
from ablation.tracking.reading import has_all_artifacts, read_json, read_runs
from ablation.tracking.store import (
    Store,
    experiment_id,
    experiment_name,
    find_experiment,
    open_store,
)


@pytest.fixture
def store(store_uri: str) -> Store:
    """Runs of three kinds in one experiment, one of them deleted, and one run in another."""
    store = open_store(store_uri)
    for name, kinds in (
        ("mine", (names.RUN, names.SUITE, names.TRIAL, names.RUN, names.RUN)),
        ("other", (names.RUN,)),
    ):
        experiment = experiment_id(store, name)
        for number, kind in enumerate(kinds):
            tags = {names.KIND: kind, "text": f"我 {number}"}
            run = store.client.create_run(
                experiment, start_time=1000 + number // 2, tags=tags, run_name=f"{kind} {number}"
            )
            store.client.log_param(run.info.run_id, "loss.tau", number / 10)
            store.client.log_text(run.info.run_id, "{}", "record.json")
    store.client.set_terminated(run.info.run_id, "FAILED")
    last = store.client.search_runs(
        [experiment_id(store, "mine")], order_by=["attributes.start_time DESC"]
    )[0]
    store.client.delete_run(last.info.run_id)
    return store


@pytest.fixture
def without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def none(uri: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr(tables, "opened", none)


@pytest.mark.parametrize(
    ("kinds", "count"), [([names.RUN], 2), ([names.RUN, names.SUITE], 3), (["none such"], 0)]
)
def test_the_tables_give_the_same_runs_in_the_same_order(
    store: Store, kinds: list[str], count: int, request: pytest.FixtureRequest
) -> None:
    experiment = experiment_id(store, "mine")
    from_tables = read_runs(store, experiment, kinds)
    request.getfixturevalue("without_tables")
    assert from_tables == read_runs(store, experiment, kinds)
    assert len(from_tables) == count


def test_experiments_are_found_in_the_tables_as_by_the_client(
    store: Store, request: pytest.FixtureRequest
) -> None:
    found = [find_experiment(store, name) for name in ("mine", "other", "none")]
    called = [experiment_name(store, experiment) for experiment in ("1", "2", "77")]
    request.getfixturevalue("without_tables")
    assert (
        found
        == [find_experiment(store, name) for name in ("mine", "other", "none")]
        == ["1", "2", None]
    )
    assert (
        called
        == [experiment_name(store, experiment) for experiment in ("1", "2", "77")]
        == ["mine", "other", None]
    )


def test_artifacts_of_a_local_store_are_read_where_they_lie(
    store: Store, request: pytest.FixtureRequest
) -> None:
    (run, *_) = read_runs(store, experiment_id(store, "mine"), [names.SUITE])
    for _ in ("from the tables", "by the client"):
        assert read_json(store, run.run_id, "record.json") == {}
        assert has_all_artifacts(store, run.run_id, '{"record.json": 2}')
        assert not has_all_artifacts(store, run.run_id, '{"record.json": 3}')
        assert not has_all_artifacts(store, run.run_id, '{"another.json": 2}')
        store.artifact_uris.clear()
        request.getfixturevalue("without_tables")


def test_looking_at_a_new_store_makes_none(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/new.db")
    assert find_experiment(store, "ablation") is None
    assert not (tmp_path / "new.db").exists()
    assert experiment_id(store, "ablation") == find_experiment(store, "ablation")


def test_tables_of_another_version_are_left_to_mlflow(store_uri: str) -> None:
    with closing(sqlite3.connect(store_uri.removeprefix("sqlite:///"))) as connection:
        connection.execute("update alembic_version set version_num = 'another'")
        connection.commit()
    with tables.opened(store_uri) as found:
        assert found is None
    with pytest.raises(UsageError, match="can't be used"):
        open_store(store_uri)
