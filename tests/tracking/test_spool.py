"""A tracking server that is unreachable, refuses, or loses its answers."""

import base64
import io
import json
import logging
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from ablation.cli.main import main
from ablation.core.errors import RunError, UsageError
from ablation.runs.doctor import examine
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking import names, retry
from ablation.tracking.delivery import Delivery
from ablation.tracking.orphans import end_orphans
from ablation.tracking.process_id import this_process
from ablation.tracking.reading import has_all_artifacts, read_json
from ablation.tracking.retry import describe_error, is_permanent
from ablation.tracking.runs import start_run
from ablation.tracking.spool import pending_uploads, spool_folders, spool_root
from ablation.tracking.store import Store, experiment_id, open_store
from ablation.tracking.sync import SyncRequest, sync
from ablation.tracking.uris import strip_credentials
from tests.commands import fork_context
from tests.tracking.servers import PATIENCE_S, Fault, Proxy, Server, serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    server = serve(folder)
    yield server
    server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def direct(server: Server) -> MlflowClient:
    """A client past the proxy, to see what the server really has."""
    return MlflowClient(server.uri)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ABLATION_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr("ablation.tracking.points.SECONDS_BETWEEN_REQUESTS", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon, for servers that stay unreachable; other tests run on busy machines too."""
    monkeypatch.setattr(retry, "PATIENCE_S", 2.0)
    monkeypatch.setattr("ablation.tracking.sync.SYNC_PATIENCE_S", 2.0)
    monkeypatch.setattr("ablation.tracking.leases.SETTLE_S", 0.5)


@pytest.fixture(autouse=True)
def deliveries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Delivery]]:
    """The deliveries of this test; a closed one stands for a process that has ended."""
    created: list[Delivery] = []

    class Recorded(Delivery):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            created.append(self)

    monkeypatch.setattr("ablation.tracking.delivery.Delivery", Recorded)
    yield created
    for delivery in created:
        delivery.close()


@pytest.fixture
def store(proxy: Proxy) -> Store:
    return open_store(proxy.uri)


@pytest.fixture
def experiment(store: Store, request: pytest.FixtureRequest) -> str:
    return experiment_id(store, request.node.name)


def write(store: Store, experiment: str, steps: int = 50) -> str:
    """Write one run with points, params, tags and artifacts, and return its id."""
    run = start_run(store, experiment, "r", {names.KIND: names.RUN})
    run.log_params({"tau": 0.2})
    for step in range(steps):
        run.log_metrics({"train/loss": step / 3}, step)
    run.set_tags({"colour": "red"})
    run.log_text("deep/a.txt", "hello")
    run.log_json("b.json", {"text": "我"})
    run.end("FINISHED")
    return run.run_id


def check_complete(direct: MlflowClient, run_id: str, tmp_path: Path, steps: int = 50) -> None:
    run = direct.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"tau": "0.2"}
    assert run.data.tags["colour"] == "red"
    history = direct.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [
        (step, step / 3) for step in range(steps)
    ]
    assert (
        Path(direct.download_artifacts(run_id, "deep/a.txt", str(tmp_path))).read_text() == "hello"
    )
    assert has_all_artifacts(Store("", direct), run_id, run.data.tags[names.MANIFEST])


def test_a_server_that_answers_gets_everything_and_nothing_is_left(
    store: Store, experiment: str, direct: MlflowClient, tmp_path: Path
) -> None:
    check_complete(direct, write(store, experiment), tmp_path)
    assert list(spool_root().iterdir()) == []
    assert len(direct.search_runs([experiment])) == 1


@pytest.mark.parametrize("fault", [500, 502, 503, 429, "close", "slow", "lose"], ids=str)
def test_every_request_that_fails_at_first_arrives_once_and_in_order(
    fault: Fault, proxy: Proxy, store: Store, experiment: str, direct: MlflowClient, tmp_path: Path
) -> None:
    requests: Counter[str] = Counter()

    def every_other(method: str, path: str) -> Fault:
        part = path.partition("?")[0]
        requests[part] += 1
        return fault if requests[part] % 2 else None

    proxy.set_fault(every_other)
    check_complete(direct, write(store, experiment), tmp_path)
    assert len(direct.search_runs([experiment])) == 1, (
        "a run whose answer was lost was created again"
    )
    assert any("log-batch" in path for path in requests)
    assert any("artifacts" in path for path in requests)


def test_mlflows_own_retries_make_no_second_run(
    proxy: Proxy,
    store: Store,
    experiment: str,
    direct: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    proxy.fail_times(1, "lose", "runs/create")
    write(store, experiment, 1)
    assert proxy.requests["/api/2.0/mlflow/runs/create"] == 2
    assert len(direct.search_runs([experiment])) == 1


def test_writing_never_waits_for_a_server_that_is_away(
    proxy: Proxy,
    store: Store,
    experiment: str,
    direct: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "PATIENCE_S", float("inf"))  # waiting would never end
    suite = start_run(store, experiment, "suite", {})
    proxy.fail("hold")

    def write() -> None:
        for step in range(50):
            suite.log_metrics({"train/loss": step / 3}, step)
        suite.log_params({"tau": 0.2})
        suite.set_tags({"colour": "red"})
        suite.log_text("deep/a.txt", "hello")
        suite.log_json("record.json", {"pearson": 0.5})
        # An ensemble reads its members before the server has them.
        assert read_json(store, suite.run_id, "record.json") == {"pearson": 0.5}

    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(write).result(PATIENCE_S)
        finally:
            proxy.fail(None)
    suite.end("FINISHED")
    assert suite.unsynced_note == ""
    check_complete(direct, suite.run_id, tmp_path)


def test_no_training_waits_for_a_slow_server(
    small_corpus: Path,
    proxy: Proxy,
    experiment: str,
    direct: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Hold every write after the suite's creation until the last run has been trained."""
    monkeypatch.setattr(retry, "PATIENCE_S", float("inf"))
    monkeypatch.setattr("ablation.tracking.delivery.CREATION_S", 0.0)
    ended: list[str] = []

    class Watching(Progress):
        def plan(self, runs: Any) -> None:
            super().plan(runs)
            writes = ("runs/create", "log-batch", "mlflow-artifacts", "runs/update", "log-inputs")
            proxy.set_fault(lambda _, path: "hold" if any(w in path for w in writes) else None)

        def ended(self, key: Any, state: Any, *figures: Any, **more: Any) -> None:
            super().ended(key, state, *figures, **more)
            ended.append(str(key))
            if len(ended) == 3:
                proxy.fail(None)

    wanted = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse", "epm", "ensemble"),
        splits=("dev1",),
        overrides={"optimisation.epochs": 1},
        experiment=request.node.name,
        tracking_uri=proxy.uri,
    )
    outcomes = run_plan(resolve_run(wanted), Watching(Console(file=io.StringIO())))
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3
    assert pending_uploads() == []
    runs = {
        run.info.run_id: run
        for run in direct.search_runs([experiment], f"tags.`{names.KIND}` != '{names.LEASES}'")
    }
    assert Counter(run.info.status for run in runs.values()) == {"FINISHED": 4}
    for outcome in outcomes:
        assert outcome.run_id in runs
        assert has_all_artifacts(
            Store("", direct), outcome.run_id, runs[outcome.run_id].data.tags[names.MANIFEST]
        )


@pytest.mark.usefixtures("impatient")
def test_what_a_lost_server_did_not_get_is_sent_later(
    proxy: Proxy,
    store: Store,
    experiment: str,
    direct: MlflowClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = start_run(store, experiment, "suite", {})
    proxy.fail(503)
    child = start_run(
        store, experiment, "child", {}, parent=suite
    )  # waits for the patience, then continues
    child.log_json("member.json", {"of": child.run_id})
    suite.log_json("runs.json", [child.run_id])
    child.set_tags({"members": child.run_id})
    child.end("FINISHED")
    suite.end("FINISHED")
    (pending,) = pending_uploads()
    assert pending.server == proxy.uri
    assert pending.runs == 2
    assert (
        f"kept in {pending.folder}, send with: ablation sync"
        == child.unsynced_note
        == suite.unsynced_note
    )
    assert direct.get_run(suite.run_id).info.status == "RUNNING"
    # Make the runs' process look dead, as it is when the next command starts.
    direct.set_tag(suite.run_id, names.PROCESS, f"{this_process().rsplit(':', 1)[0]}:1")
    assert end_orphans(Store("", direct), experiment) == []

    assert store.delivery
    with pytest.raises(RunError, match="a running process sends it"):
        sync(SyncRequest(), print)
    store.delivery.close()
    with pytest.raises(RunError, match="has not received"):
        sync(SyncRequest(), print)
    proxy.fail(None)
    sync(SyncRequest(), print)
    assert "all was sent" in capsys.readouterr().out
    assert list(spool_root().iterdir()) == []
    runs = {run.info.run_name: run for run in direct.search_runs([experiment])}
    assert set(runs) == {"suite", "child"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    child_id = runs["child"].info.run_id
    assert runs["child"].data.tags[names.PARENT] == suite.run_id
    assert runs["child"].data.tags["members"] == child_id
    # Artifacts name runs by the server's ids, too.
    assert json.loads(
        Path(direct.download_artifacts(suite.run_id, "runs.json", str(tmp_path))).read_text()
    ) == [child_id]
    assert has_all_artifacts(Store("", direct), child_id, runs["child"].data.tags[names.MANIFEST])
    sync(SyncRequest(), print)
    assert "nothing is waiting" in capsys.readouterr().out


@pytest.mark.parametrize("status", [401, 403, 400])
def test_refusals_are_not_asked_again(
    status: int, proxy: Proxy, store: Store, experiment: str, direct: MlflowClient, tmp_path: Path
) -> None:
    run = start_run(store, experiment, "r", {})
    proxy.fail(status, "log-batch")
    run.log_params({"tau": 0.2})
    run.end("FINISHED")
    assert proxy.requests["/api/2.0/mlflow/runs/log-batch"] == 1
    (pending,) = pending_uploads()
    assert f"refused with {status}" in pending.reason
    assert direct.get_run(run.run_id).info.status == "RUNNING", (
        "a run without its results was called finished"
    )
    assert store.delivery
    store.delivery.close()
    proxy.fail(None)
    sync(SyncRequest(pending.folder), print)
    assert direct.get_run(run.run_id).data.params == {"tau": "0.2"}
    assert direct.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("way_out", ["restore", "discard"])
def test_a_run_that_was_deleted_on_the_server_is_restored_or_discarded(
    way_out: str,
    store: Store,
    experiment: str,
    direct: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = start_run(store, experiment, "r", {})
    run.log_params({"tau": 0.2})
    assert store.delivery
    assert store.delivery.drain()
    direct.delete_run(run.run_id)
    run.log_text("a.txt", "hello")
    run.end("FINISHED")
    (pending,) = pending_uploads()
    assert f"run {run.run_id} was deleted there" in pending.reason
    assert f"ablation sync --restore {run.run_id}" in pending.reason
    store.delivery.close()
    (told,) = [line for line in examine(store) if "has not received" in line]
    assert f"--discard {run.run_id}" in told
    with pytest.raises(RunError, match="was deleted there"):
        sync(SyncRequest(), print)
    chosen = SyncRequest(**{way_out: [run.run_id]})
    sync(chosen, print)
    assert f"run {run.run_id}:" in capsys.readouterr().out
    assert list(spool_root().iterdir()) == []
    ended = direct.get_run(run.run_id)
    assert (ended.info.lifecycle_stage, ended.info.status) == (
        ("active", "FINISHED") if way_out == "restore" else ("deleted", "RUNNING")
    )


@pytest.mark.parametrize("answered", [True, False], ids=["known by its id", "created later"])
def test_a_run_that_was_deleted_on_the_server_is_written_elsewhere(
    answered: bool,
    store: Store,
    experiment: str,
    direct: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The new run has what the server had of the deleted one, and what it had refused."""
    suite = start_run(store, experiment, "suite", {})
    if not answered:  # so that this process knows the run by an id of its own
        monkeypatch.setattr("ablation.tracking.delivery.CREATION_S", 0.0)
    run = start_run(store, experiment, "r", {names.KIND: names.RUN}, parent=suite)
    run.log_params({"tau": 0.2})
    for step in range(25):
        run.log_metrics({"train/loss": step / 3}, step)
    run.log_text("deep/a.txt", "hello")
    assert store.delivery
    assert store.delivery.drain()
    points = direct.get_metric_history(run.run_id, "train/loss")
    direct.delete_run(run.run_id)
    for step in range(25, 50):
        run.log_metrics({"train/loss": step / 3}, step)
    run.set_tags({"colour": "red"})
    run.log_json("b.json", {"of": run.run_id})
    run.end("FINISHED")
    suite.set_tags({"member": run.run_id})
    suite.end("FINISHED")
    store.delivery.close()
    deleted = run.run_id
    other = SyncRequest(elsewhere=[suite.run_id])
    with pytest.raises(RunError, match=f"--elsewhere {deleted}"):
        sync(other, print)
    with pytest.raises(UsageError, match="give one of"):
        sync(SyncRequest(elsewhere=[deleted], discard=[deleted]), print)
    sync(SyncRequest(elsewhere=["all"]), print)
    assert list(spool_root().iterdir()) == []
    (copy,) = [r for r in direct.search_runs([experiment]) if r.info.run_name == "r"]
    assert f"run {deleted}: goes on as run {copy.info.run_id}" in capsys.readouterr().out
    check_complete(direct, copy.info.run_id, tmp_path)
    assert points == direct.get_metric_history(copy.info.run_id, "train/loss")[: len(points)]
    assert copy.data.tags[names.PARENT] == suite.run_id
    assert direct.get_run(deleted).info.lifecycle_stage == "deleted"


def test_one_runs_refusal_holds_up_no_other(
    proxy: Proxy, store: Store, experiment: str, direct: MlflowClient
) -> None:
    refused = start_run(store, experiment, "refused", {})
    refused.log_params({"tau": 0.2})
    refused.log_params({"tau": 0.3})  # a parameter has one value
    other = write(store, experiment, 1)
    assert direct.get_run(other).info.status == "FINISHED"
    assert refused.unsynced_note
    refused.end("FAILED", "two values")
    assert [pending.runs for pending in pending_uploads()] == [1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [401, 503, "close"], ids=str)
def test_a_run_that_stands_by_itself_is_not_begun_without_a_server(
    fault: Fault, proxy: Proxy, store: Store, experiment: str
) -> None:
    proxy.fail(fault, "runs/create")
    with pytest.raises(UsageError, match="can't be used") as error:
        start_run(store, experiment, "suite", {})
    assert len(error.value.problems) == 1
    assert pending_uploads() == []


def test_reads_wait_for_a_server_and_say_so_if_it_stays_away(
    proxy: Proxy, store: Store, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = write(store, experiment, 1)
    proxy.fail_times(3, 503)
    assert read_json(store, run_id, "b.json") == {"text": "我"}
    proxy.fail("close")
    monkeypatch.setattr(retry, "PATIENCE_S", 1.0)
    with pytest.raises(RunError, match="unreachable for 1 s"):
        read_json(store, run_id, "b.json")
    proxy.fail(401)
    proxy.requests.clear()
    with pytest.raises(Exception, match="401"):
        read_json(store, run_id, "b.json")
    assert proxy.requests.total() == 1


@pytest.mark.usefixtures("impatient")
def test_credentials_are_used_and_written_nowhere(
    proxy: Proxy,
    experiment: str,
    direct: MlflowClient,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    secret = "s3cr@t"
    uri = f"http://me:s3cr%40t@{proxy.address}"
    caplog.set_level(logging.DEBUG)
    store = open_store(uri)
    run = start_run(store, experiment, "r", {})
    proxy.fail("close")
    try:
        store.client.get_run(run.run_id)
    except Exception as error:
        run.fail(error)
    assert store.delivery
    store.delivery.close()
    stored = b"".join(file.read_bytes() for file in spool_root().rglob("*") if file.is_file())
    proxy.fail(None)
    proxy.credentials.clear()
    with pytest.raises(RunError, match=r"name it with --spool"):
        sync(SyncRequest(tracking_uri="http://me:other@127.0.0.1:1"), print)
    sync(SyncRequest(tracking_uri=uri), print)
    assert proxy.credentials == {"Basic " + base64.b64encode(f"me:{secret}".encode()).decode()}
    ended = direct.get_run(run.run_id)
    assert ended.info.status == "FAILED"
    traceback = Path(
        direct.download_artifacts(run.run_id, names.TRACEBACK_FILE, str(tmp_path))
    ).read_text()
    for text in (
        stored.decode(errors="replace"),
        str(ended.to_dictionary()),
        traceback,
        caplog.text,
        strip_credentials(store.uri),
        describe_error(ValueError(f"no answer from {store.uri}/api")),
    ):
        assert "s3cr" not in text
    assert "***@" in traceback


class TestPasswords:
    """A server's password, in all that commands print and write."""

    @pytest.mark.usefixtures("impatient")
    def test_no_command_says_or_writes_a_password(
        self,
        arguments: list[str],
        proxy: Proxy,
        server: Server,
        deliveries: list[Delivery],
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        uri = f"http://me:s3cr/et@{proxy.address}".replace("/et", "%2Fet")
        monkeypatch.chdir(tmp_path)
        arguments[arguments.index(proxy.uri)] = uri
        plan = [part for part in arguments if part not in ("--report", "true")]
        plan[1] = "plan"
        report = [
            "ablation",
            "report",
            "--tracking-uri",
            uri,
            "--experiment",
            arguments[arguments.index("--experiment") + 1],
        ]
        doctor, sync_ = ["ablation", "doctor"], ["ablation", "sync"]
        given = ["--tracking-uri", uri]
        wanted = [
            plan,
            arguments,
            report,
            [*report, "--verify"],
            [*doctor, *given],
            [*sync_, *given],
        ]
        for command in wanted:
            assert exit_code(monkeypatch, command) in (0, None), command
        proxy.fail_after(3, "close", "runs/create")  # of leases, suite and first run
        assert exit_code(monkeypatch, [*arguments, "--fresh"]) == 1
        for delivery in deliveries:
            delivery.close()
        proxy.fail(401)
        for command in wanted:
            assert exit_code(monkeypatch, ["ablation", "--debug", *command[1:]]) != 0, command
        out, err = capfd.readouterr()
        assert "***@" in err
        # Every file: reports, artifacts, the spool, and the server's database.
        folders = (tmp_path, server.folder)
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        assert any(file.name == "report.html" for file in files)
        html = next(file for file in files if file.name == "report.html").read_text("utf-8")
        assert f"{proxy.uri}/#/experiments/" in html, "links that work"
        found = [file for file in files if b"s3cr" in file.read_bytes()]
        assert found == []
        assert "s3cr" not in out + err

    @pytest.mark.usefixtures("impatient")
    def test_no_command_that_comes_after_or_beside_a_run_says_or_writes_a_password(
        self,
        arguments: list[str],
        proxy: Proxy,
        server: Server,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
    ) -> None:
        """Studies, the bench, models and what reads finished runs, at work and refused."""
        uri = f"http://me:s3cret@{proxy.address}"
        monkeypatch.chdir(tmp_path)
        arguments[arguments.index(proxy.uri)] = uri
        experiment = arguments[arguments.index("--experiment") + 1]
        corpus = arguments[arguments.index("--data") + 1]
        quick = f"--data {corpus} --profile smoke --set optimisation.epochs=1"
        named = f"--experiment {experiment}"
        commands = {
            "sweep": f"{quick} --space tau --trials 1 --storage sqlite:///s.db --out study"
            f" {named}-s",
            "curves": f"{quick} --figures 4 --taus 0.2 --seeds 0 {named}-c",
            "bench": f"{quick} --only prediction --rows 48 --rounds 1 --encoder tiny --out bench",
            "bundle": f"{named} --out all.ablation.zip",
            "unbundle": f"all.ablation.zip {named}-u",
            "compare": f"mse epm {named} --out compared",
            "register": named,
            "push": "models:/intimacy@champion me/intimacy --dry-run",
            "predict": "models:/intimacy@champion texts.csv --out scored.csv",
            "submit": f"{quick} {named} --out submission.csv",
        }
        (tmp_path / "texts.csv").write_text("text\nje t'aime\n")
        assert exit_code(monkeypatch, [*arguments, "--seeds", "0,1"]) == 0
        for name, more in commands.items():
            command = ["ablation", name, *more.split(), "--tracking-uri", uri]
            assert exit_code(monkeypatch, command) in (0, None), name
        proxy.fail(401)
        commands["curves"] += " --fresh"
        for name, more in {**commands, "power": named}.items():
            command = ["ablation", "--debug", name, *more.split(), "--tracking-uri", uri]
            assert exit_code(monkeypatch, command) != 0, name
        lost = "postgresql://me:s3cret@127.0.0.1:1/x"
        sweep = commands["sweep"].replace("sqlite:///s.db", lost).split()
        assert exit_code(monkeypatch, ["ablation", "--debug", "sweep", *sweep]) != 0
        out, err = capfd.readouterr()
        assert "***@" in err
        files = [
            f for folder in (tmp_path, server.folder) for f in folder.rglob("*") if f.is_file()
        ]
        assert {"trials.csv", "bench.json", "compare.csv", "scored.csv"} <= {f.name for f in files}
        assert [file for file in files if b"s3cret" in file.read_bytes()] == []
        assert "s3cret" not in out + err


def closed_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_server_that_is_away_at_the_start_is_one_line_without_the_password() -> None:
    with pytest.raises(UsageError) as error:
        open_store(f"http://me:secret@127.0.0.1:{closed_port()}")
    assert "secret" not in str(error.value)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("code", [404, 405, 413])
def test_statuses_that_mlflow_has_no_name_for_are_still_told_apart(
    code: int, proxy: Proxy, store: Store
) -> None:
    proxy.fail(code)
    with pytest.raises(Exception, match=str(code)) as error:
        store.client.search_experiments()
    assert is_permanent(error.value)


@pytest.fixture
def arguments(small_corpus: Path, proxy: Proxy, request: pytest.FixtureRequest) -> list[str]:
    return [
        "ablation",
        "run",
        "--data",
        str(small_corpus),
        "--profile",
        "smoke",
        "--variants",
        "mse,epm,ensemble",
        "--splits",
        "dev1",
        "--set",
        "optimisation.epochs=1",
        "--tracking-uri",
        proxy.uri,
        "--experiment",
        request.node.name,
        "--report",
        "true",
    ]


def exit_code(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> object:
    """Run a command and return its exit code."""
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.usefixtures("impatient")
def test_it_says_where_the_results_are_and_sync_delivers_them(
    arguments: list[str],
    proxy: Proxy,
    direct: MlflowClient,
    deliveries: list[Delivery],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    # The suite is created, its first run is not.
    proxy.fail_after(3, "close", "runs/create")  # of leases, suite and first run
    assert exit_code(monkeypatch, arguments) == 1
    out, err = capsys.readouterr()
    (folder,) = spool_folders()
    assert out.count("finished") == 3, "training did not continue"
    assert f"kept in {folder}, send with: ablation sync" in out
    assert "Report:" not in out
    (line,) = [line for line in err.splitlines() if line.startswith("ablation: ")]
    assert "Remote end closed connection" in line
    assert str(folder) in line
    assert line.endswith("ablation sync")
    for delivery in deliveries:
        delivery.close()
    assert exit_code(monkeypatch, ["ablation", "sync"]) == 1
    assert "has not received" in capsys.readouterr().err
    proxy.fail(None)
    assert exit_code(monkeypatch, ["ablation", "sync"]) == 0
    experiment = direct.get_experiment_by_name(arguments[arguments.index("--experiment") + 1])
    assert experiment is not None
    runs = direct.search_runs(
        [experiment.experiment_id], f"tags.`{names.KIND}` != '{names.LEASES}'"
    )
    assert Counter(run.info.status for run in runs) == {"FINISHED": 4}
    by_variant = {run.data.tags.get(names.VARIANT, ""): run for run in runs}
    members = json.loads(by_variant["ensemble"].data.tags[names.MEMBER_RUNS])
    assert members
    assert all(by_variant[variant].info.run_id == run_id for variant, run_id in members.items())
    assert all(
        has_all_artifacts(Store("", direct), run.info.run_id, run.data.tags[names.MANIFEST])
        for run in runs
    )
    # The same command reuses what was sent later.
    arguments[arguments.index("true")] = "false"
    assert exit_code(monkeypatch, arguments) == 0
    assert capsys.readouterr().out.count("reused") == 3


@pytest.mark.usefixtures("impatient")
def test_what_waits_in_a_spool_is_sent_before_a_plan_reads_the_server(
    arguments: list[str],
    proxy: Proxy,
    deliveries: list[Delivery],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments[arguments.index("true")] = "false"
    proxy.fail_after(3, "close", "runs/create")  # of leases, suite and first run
    assert exit_code(monkeypatch, arguments) == 1
    for delivery in deliveries:
        delivery.close()
    proxy.fail(None)
    capsys.readouterr()
    plan = [part for part in arguments if part not in ("--report", "false")]
    plan[1] = "plan"
    assert exit_code(monkeypatch, [*plan, "--no-measure"]) == 0
    assert "0 to do, 3 reused" in capsys.readouterr().out
    assert list(spool_root().iterdir()) == []


class TestRequests:
    """Requests that commands make of a server."""

    def test_runs_that_are_reused_take_no_requests_of_their_own(
        self, arguments: list[str], proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        arguments[arguments.index("true")] = "false"
        plan = ["ablation", "plan", "--no-measure"]
        plan += [part for part in arguments[2:] if part not in ("--report", "false")]
        taken = []
        for seeds in ("0", "0-2"):
            assert exit_code(monkeypatch, [*arguments, "--seeds", seeds]) == 0
            for command in (plan, arguments):
                proxy.requests.clear()
                assert exit_code(monkeypatch, [*command, "--seeds", seeds]) == 0
                # Of a suite's table, points of several metrics may go in one request or in two.
                taken.append(
                    sum(n for path, n in proxy.requests.items() if "log-batch" not in path)
                )
        # A lease is renewed by the clock, so a few more; one for each of six runs would be six.
        more = [of_9 - of_3 for of_3, of_9 in zip(taken[:2], taken[2:], strict=True)]
        assert max(more) < 6, "plan and run, with 9 runs and with 3"


def test_a_server_that_comes_back_has_it_all_at_the_end(
    arguments: list[str],
    proxy: Proxy,
    direct: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    proxy.fail_times(12, 500, "log-batch")
    arguments[arguments.index("true")] = "false"
    assert exit_code(monkeypatch, arguments) == 0
    assert pending_uploads() == []


def test_a_server_that_refuses_to_be_read_is_one_line(
    arguments: list[str],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy.fail(401, "get-by-name")
    assert exit_code(monkeypatch, arguments) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ablation: ")]
    assert len(lines) == 1
    assert "refused with 401, check the credentials" in lines[0]


def write_together(uri: str, experiment: str, state: str, count: int) -> None:
    """Write `count` runs at once, in a process of its own."""
    os.environ["ABLATION_STATE"] = state
    store = open_store(uri)
    runs = [start_run(store, experiment, "r", {names.KIND: names.RUN}) for _ in range(count)]
    for run in runs:
        run.log_params({"tau": 0.2})
    for step in range(50):
        for run in runs:
            run.log_metrics({"train/loss": step / 3}, step)
    for run in runs:
        run.set_tags({"colour": "red"})
        run.log_text("deep/a.txt", "hello")
        run.end("FINISHED")


class TestAtOnce:
    """Runs of several processes that are written to one server at once: all arrive, once."""

    @pytest.fixture
    def write(
        self, server: Server, direct: MlflowClient, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Callable[[Sequence[int]], None]:
        experiment = direct.create_experiment(request.node.name)
        state = tmp_path / "shared"

        def write(shares: Sequence[int]) -> None:
            processes = [
                fork_context().Process(
                    target=write_together, args=(server.uri, experiment, str(state), count)
                )
                for count in shares
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join(10 * PATIENCE_S)
            assert {process.exitcode for process in processes} == {0}
            runs = direct.search_runs([experiment])
            assert len(runs) == sum(shares)
            for run in runs:
                check_complete(direct, run.info.run_id, tmp_path)
            assert list((state / "spool").iterdir()) == []

        return write

    def test_three_runs_of_two_processes(self, write: Callable[[Sequence[int]], None]) -> None:
        write([2, 1])

    @pytest.mark.soak
    def test_fifty_runs_of_eight_processes(self, write: Callable[[Sequence[int]], None]) -> None:
        write([7, 7, 6, 6, 6, 6, 6, 6])


@pytest.mark.soak
def test_a_server_that_is_stopped_for_30_seconds_loses_nothing(
    small_corpus: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop the server while a real command trains, with the command's own pauses and limits."""
    for name, value in (("FIRST_PAUSE_S", 0.2), ("LONGEST_PAUSE_S", 5.0), ("PATIENCE_S", 60.0)):
        monkeypatch.setattr(retry, name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    servers = [serve(tmp_path)]
    port, uri = servers[0].port, servers[0].uri
    has_begun = threading.Event()

    def restart() -> None:
        has_begun.wait(PATIENCE_S)
        servers[0].kill()
        threading.Event().wait(30)
        servers[0] = serve(tmp_path, port)

    class Watching(Progress):
        def started(self, key: Any) -> None:
            super().started(key)
            has_begun.set()

    thread = threading.Thread(target=restart)
    thread.start()
    request = RunRequest(
        data=str(small_corpus),
        profile="smoke",
        variants=("mse", "epm", "ensemble"),
        splits=("dev1",),
        tracking_uri=uri,
    )
    try:
        outcomes = run_plan(resolve_run(request), Watching(Console(file=io.StringIO())))
        thread.join()
        assert [outcome.state for outcome in outcomes] == ["finished"] * 3
        assert pending_uploads() == []
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("ablation")
        assert experiment is not None
        every = client.search_runs([experiment.experiment_id])
        runs = [run for run in every if run.data.tags[names.KIND] != names.LEASES]
        assert Counter(run.info.status for run in runs) == {"FINISHED": 4}
        for run in runs:
            manifest = run.data.tags[names.MANIFEST]
            assert has_all_artifacts(Store("", client), run.info.run_id, manifest)
            history = client.get_metric_history(run.info.run_id, "train/loss")
            steps = [point.step for point in history]
            assert steps == sorted(set(steps))
    finally:
        thread.join()
        servers[0].kill()
