"""Reading runs and artifacts back from a store."""

from itertools import product

import pytest

from ablation.tracking import names, pages
from ablation.tracking.reading import (
    has_all_artifacts,
    read_json,
    read_runs,
)
from ablation.tracking.store import (
    Store,
    experiment_id,
    experiment_name,
    find_experiment,
    open_store,
)


@pytest.fixture
def store(store_uri: str) -> Store:
    """Two experiments; "main" has five runs of three kinds, the last one deleted."""
    store = open_store(store_uri)
    for name, kinds in (
        ("main", (names.RUN, names.SUITE, names.TRIAL, names.RUN, names.RUN)),
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
            if number == 4:
                store.client.delete_run(run.info.run_id)
    store.client.set_terminated(run.info.run_id, "FAILED")
    return store


@pytest.mark.parametrize(
    ("page", "kinds", "numbers"),
    [
        (page, *case)
        for page, case in product(
            (1, 1000),
            [
                ([names.RUN], ["0", "3"]),
                ([names.RUN, names.SUITE], ["0", "1", "3"]),
                ([names.TRIAL, names.SUITE, names.RUN], ["0", "1", "2", "3"]),
                (["no such kind"], []),
            ],
        )
    ],
)
def test_runs_come_back_by_kind_and_oldest_first(
    store: Store,
    page: int,
    kinds: list[str],
    numbers: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "_PAGE", page)
    rows = read_runs(store, experiment_id(store, "main"), kinds)
    assert [row.start_time for row in rows] == [1000 + int(number) // 2 for number in numbers]
    assert sorted(row.tags["text"].split()[1] for row in rows) == numbers
    assert {row.tags[names.KIND] for row in rows} <= set(kinds)


def test_a_row_holds_what_was_tracked(store: Store) -> None:
    (row,) = read_runs(store, experiment_id(store, "other"), [names.RUN])
    run = store.client.get_run(row.run_id)
    assert row.status == "FAILED"
    assert row.start_time == 1000
    assert row.artifact_uri == run.info.artifact_uri
    assert row.tags["text"] == "我 0"
    assert row.params == {"loss.tau": "0.0"}


def test_reading_runs_takes_one_request_a_kind_and_none_a_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = experiment_id(store, "main")
    requests: list[str] = []
    for method in ("search_runs", "get_run", "list_artifacts", "download_artifacts"):
        real = getattr(store.client, method)

        def counted(
            *args: object, _m: str = method, _real: object = real, **more: object
        ) -> object:
            requests.append(_m)
            return _real(*args, **more)  # type: ignore[operator]

        monkeypatch.setattr(store.client, method, counted)
    for row in read_runs(store, experiment, [names.RUN, names.SUITE]):
        assert has_all_artifacts(store, row.run_id, '{"record.json": 2}')
        assert read_json(store, row.run_id, "record.json") == {}
    assert requests == ["search_runs", "search_runs"]


@pytest.mark.parametrize("known", [True, False])
def test_artifacts_are_checked_by_size_whether_or_not_their_place_is_known(
    store: Store, known: bool
) -> None:
    (run,) = read_runs(store, experiment_id(store, "main"), [names.SUITE])
    if not known:
        store.artifact_uris.clear()
    assert read_json(store, run.run_id, "record.json") == {}
    assert has_all_artifacts(store, run.run_id, '{"record.json": 2}')
    assert not has_all_artifacts(store, run.run_id, '{"record.json": 3}')
    assert not has_all_artifacts(store, run.run_id, '{"record.json": 2, "another.json": 2}')


def test_experiments_are_known_by_name_and_by_id(store: Store) -> None:
    ids = [find_experiment(store, name) for name in ("main", "other", "none")]
    assert ids == ["1", "2", None]
    assert [experiment_name(store, id_) for id_ in ("1", "2", "77")] == ["main", "other", None]


def test_looking_at_a_new_store_creates_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("new") / "new.db"
    store = open_store(f"sqlite:///{file}")
    assert find_experiment(store, "ablation") is None
    assert not file.exists()
    assert experiment_id(store, "ablation") == find_experiment(store, "ablation")
