"""A team's services: MLflow on PostgreSQL with artifacts on S3, and checkpoints on S3.

The S3 store is moto's stand-in, in this process: `pip install 'moto[server]' s3fs boto3`.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.tracking.store import open_store
from tests.commands import PATIENCE_S, Command, completed
from tests.executors.postgres import Postgres
from tests.executors.test_machines import machine, postgres  # noqa: F401
from tests.executors.test_runs import (  # noqa: F401
    arguments,
    assert_same_results,
    corpus,
    runs_of,
)
from tests.tracking.servers import Server, serve

EPOCHS = 300


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of an S3 store with the buckets "artifacts" and "checkpoints"."""
    s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    pytest.importorskip("boto3")
    store = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir("artifacts")
    files.mkdir("checkpoints")
    yield files
    store.stop()


@pytest.fixture
def server(files: Any, postgres: Postgres, tmp_path: Path) -> Iterator[Server]:  # noqa: F811
    database = postgres.create_database("mlflow")
    server = serve(tmp_path, database=database, artifacts="s3://artifacts/mlflow")
    yield server
    server.kill()


def wait_for_checkpoint(files: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(name.endswith(".json") for name in files.find("checkpoints")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.soak
def test_a_suite_goes_on_from_checkpoints_on_s3_on_another_machine(
    corpus: Path,  # noqa: F811
    files: Any,
    server: Server,
    store_uri: str,
    tmp_path: Path,
) -> None:
    url, threads = ("--checkpoints", "s3://checkpoints/ablation"), ("--cpus-per-run", "1")
    suite = arguments(corpus, server.uri, *threads, *url, epochs=EPOCHS)
    a, b, c = (machine(tmp_path, name) for name in ("a", "b", "c"))
    killed = Command(suite, *a)
    wait_for_checkpoint(files)
    killed.kill()
    killed.wait()
    other = Command(suite, *b)
    output = other.read_until("resumed after epoch")
    rest, errors = other.communicate()
    assert other.returncode == 0, output + rest + errors
    done = completed(arguments(corpus, store_uri, *threads, epochs=EPOCHS), *c)
    assert done[0] == 0, done
    store = open_store(server.uri)
    assert_same_results(store, open_store(store_uri))
    statuses = Counter(status for _, status, _ in runs_of(store))
    assert statuses == {"FINISHED": 6, "KILLED": 1}
    assert files.find("artifacts/mlflow")
    assert not files.find("checkpoints"), "what has finished needs no checkpoint"
    print(output, rest, dict(statuses), len(files.find("artifacts/mlflow")), "files on S3")
