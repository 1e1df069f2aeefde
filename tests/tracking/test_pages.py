"""Pages of runs: from both ends of an experiment, and from a server's JSON."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.proto_json_utils import message_to_json

from ablation.tracking import names, pages
from ablation.tracking.pages import Page, from_both_ends, runs_of_kind
from ablation.tracking.rows import RunRow, row_of_json, to_row
from ablation.tracking.store import Store


@given(starts=st.lists(st.integers(0, 6), min_size=1, max_size=40), size=st.integers(1, 9))
def test_reading_from_both_ends_finds_every_run_in_the_pages_that_are_needed(
    starts: list[int], size: int
) -> None:
    """Also where several runs have started at the same moment."""
    runs = [RunRow(f"run {i}", "FINISHED", start, "", {}, {}) for i, start in enumerate(starts)]
    asked = 0

    def ordered_pages(*, newest_first: bool) -> Iterator[Page]:
        nonlocal asked
        # As MLflow's servers do: among those of one moment the order is the same in both.
        ordered = sorted(runs, key=lambda run: (-1) ** newest_first * run.start_time)
        for first in range(0, len(ordered), size):
            asked += 1
            more = first + size < len(ordered)
            yield Page(ordered[first : first + size], "next" if more else None)

    found = from_both_ends(ordered_pages(newest_first=False), ordered_pages(newest_first=True))
    assert sorted(found, key=str) == sorted(runs, key=str)
    most_at_once = max(Counter(starts).values())
    assert asked <= (len(runs) + 2 * most_at_once) / size + 4
    assert asked == 1 or len(runs) > size


NAMES = st.text(min_size=1, max_size=9)
TEXTS = st.text(max_size=30)


@given(
    tags=st.dictionaries(NAMES, TEXTS),
    params=st.dictionaries(NAMES, TEXTS),
    metrics=st.dictionaries(NAMES, st.floats()),
    start=st.integers(0, 2**62),
)
def test_a_servers_json_says_what_its_client_says(
    tags: dict[str, str], params: dict[str, str], metrics: dict[str, float], start: int
) -> None:
    info = RunInfo("id", "1", "me", "RUNNING", start, None, "active", "file:///a", run_name="r")
    data = RunData(
        metrics=[Metric(name, value, 1, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    run = Run(info, data)
    read = row_of_json(json.loads(message_to_json(run.to_proto())))
    # NaN differs from itself, but not as a text.
    assert str(read) == str(to_row(run))


class SlowServer:
    """Answers searches for some runs; pages longer than `limit` runs take too long."""

    def __init__(self, count: int, limit: int) -> None:
        self.runs = [
            {
                "info": {"run_id": f"run {i}", "status": "FINISHED", "start_time": str(i)},
                "data": {"tags": [{"key": names.KIND, "value": names.RUN}]},
            }
            for i in range(count)
        ]
        self.limit = limit
        self.sizes: list[int] = []

    def answer(
        self, host_creds: object, endpoint: str, method: str, json: dict[str, Any]
    ) -> requests.Response:
        size = json["max_results"]
        self.sizes.append(size)
        if size > self.limit:
            raise MlflowException(f"API request to {endpoint} failed: Read timed out.")
        runs = self.runs[:: -1 if "DESC" in json["order_by"][0] else 1]
        first = int(json.get("page_token", 0))
        page: dict[str, Any] = {"runs": runs[first : first + size]}
        if first + size < len(runs):
            page["next_page_token"] = str(first + size)
        return response(200, page)


def response(status: int, content: object) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = json.dumps(content).encode()
    return made


@pytest.fixture
def store() -> Store:
    uri = "http://127.0.0.1:1"
    return Store(uri, MlflowClient(uri))


def test_pages_that_take_a_server_too_long_become_smaller(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablation.tracking.retry.FIRST_PAUSE_S", 0.0)
    server = SlowServer(700, limit=130)
    monkeypatch.setattr("mlflow.utils.rest_utils.http_request", server.answer)
    found = runs_of_kind(store, "1", names.RUN)
    assert {row.run_id for row in found} == {f"run {i}" for i in range(700)}
    assert len(found) == 700
    assert server.sizes.count(pages._SERVER_PAGE) == 2, "once from either end"


def test_what_a_server_refuses_is_not_read_as_an_empty_page(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = response(403, {"error_code": "PERMISSION_DENIED", "message": "not yours"})
    monkeypatch.setattr("mlflow.utils.rest_utils.http_request", lambda *a, **k: refusal)
    with pytest.raises(MlflowException, match="not yours"):
        runs_of_kind(store, "1", names.RUN)
