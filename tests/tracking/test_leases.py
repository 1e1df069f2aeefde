"""Leases on a real server: one machine trains a run, and a dead one loses it."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ablation.tracking import leases, names
from ablation.tracking.leases import Lease, Leases, leases_of, open_leases, settle_leases
from ablation.tracking.store import open_store
from tests.tracking.servers import Server, serve

IDENTITY = "1a2b" * 16
#: A process on another machine, of which nothing is known here.
FAR = "far:7:b1t1n1p"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = serve(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def client(server: Server) -> MlflowClient:
    return MlflowClient(server.uri)


@pytest.fixture
def experiment(client: MlflowClient, request: pytest.FixtureRequest) -> str:
    return str(client.create_experiment(re.sub(r"\W", " ", request.node.name)))


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read what another one wrote a moment ago."""
    monkeypatch.setattr(leases, "_READ_S", 0.0)


def test_of_many_that_ask_at_once_one_gets_it(client: MlflowClient, experiment: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        all_leases = list(pool.map(lambda _: leases_in(client, experiment), range(8)))
        assert len({one.run_id for one in all_leases}) == 1
        ready = threading.Barrier(8)

        def ask(one: Leases) -> Lease | None:
            ready.wait()
            return one.acquire(IDENTITY)

        won = [lease for lease in pool.map(ask, all_leases) if lease is not None]
    assert len(won) == 1
    assert not won[0].took_over
    won[0].release()
    runs = client.search_runs([experiment], f"tags.`{names.KIND}` = '{names.LEASES}'")
    assert [run.info.run_id for run in runs] == [all_leases[0].run_id]


def test_what_is_released_is_free_for_the_next(client: MlflowClient, experiment: str) -> None:
    first, second = leases_in(client, experiment), leases_in(client, experiment)
    lease = first.acquire(IDENTITY)
    assert lease is not None
    assert second.acquire(IDENTITY) is None
    other = second.acquire("f" * 64)  # the lease on another run
    assert other is not None
    lease.release()
    settle_leases()
    after = second.acquire(IDENTITY)
    assert after is not None
    assert not after.took_over
    after.release()
    other.release()


def test_it_is_kept_until_the_end_of_the_run_was_sent(
    client: MlflowClient, experiment: str
) -> None:
    sent = threading.Event()
    first, second = leases_in(client, experiment), leases_in(client, experiment)
    lease = first.acquire(IDENTITY)
    assert lease is not None
    lease.release(sent.is_set)
    assert second.acquire(IDENTITY) is None
    sent.set()
    settle_leases()
    after = second.acquire(IDENTITY)
    assert after is not None
    after.release()


def leases_in(client: MlflowClient, experiment: str) -> Leases:
    """Take the experiment's leases in a process of its own."""
    leases._create_leases_run(client, experiment)
    run_id = leases._find_leases_run(client, experiment)
    assert run_id
    return Leases(client, run_id)


def take_from_afar(client: MlflowClient, one: Leases, sign: str = "1 0") -> None:
    client.log_param(one.run_id, f"{IDENTITY[:32]}.1", f"{FAR} work-1 x")
    client.set_tag(one.run_id, f"lease.{IDENTITY[:32]}", sign)


def test_an_owner_without_a_sign_of_life_loses_it(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = leases_in(client, experiment)
    take_from_afar(client, one)
    assert one.acquire(IDENTITY) is None  # seen for the first time
    monkeypatch.setattr(leases, "GRACE_S", 0.0)
    take_from_afar(client, one, "1 1")
    assert one.acquire(IDENTITY) is None  # it was renewed
    lease = one.acquire(IDENTITY)
    assert lease is not None
    assert lease.took_over
    lease.release()


def test_a_dead_process_of_this_machine_loses_it_at_once(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = leases_in(client, experiment)
    take_from_afar(client, one)
    monkeypatch.setattr(leases, "is_dead", lambda process: process == FAR)
    lease = one.acquire(IDENTITY)
    assert lease is not None
    lease.release()


def test_a_holder_renews_it(
    client: MlflowClient, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.01)
    renewed = threading.Event()
    one = leases_in(client, experiment)
    sign = one.sign
    monkeypatch.setattr(
        one, "sign", lambda i, text: (sign(i, text), text == "1 3" and renewed.set())
    )
    lease = one.acquire(IDENTITY)
    assert lease is not None
    assert renewed.wait(60)
    lease.release()


def test_what_a_lost_worker_held_is_freed_by_its_driver(
    client: MlflowClient, experiment: str
) -> None:
    one = leases_in(client, experiment)
    take_from_afar(client, one)
    one.revoke(IDENTITY, "another work")
    assert one.acquire(IDENTITY) is None
    one.revoke(IDENTITY, "work-1")
    lease = one.acquire(IDENTITY)
    assert lease is not None
    assert not lease.took_over
    lease.release()


def test_a_local_store_has_none(store_uri: str, server: Server, tmp_path: Path) -> None:
    store = open_store(store_uri)
    open_leases(store, "0")
    assert leases_of(store, "0") is None
