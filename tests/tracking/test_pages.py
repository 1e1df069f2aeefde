"""Pages of runs from a server's JSON."""

import json
import re
import uuid
from collections.abc import Sequence
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
from ablation.tracking.pages import runs_of_kind
from ablation.tracking.rows import row_of_json, to_row
from ablation.tracking.store import Store

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


class SearchServer:
    """Answers searches for some runs; pages longer than `limit` runs take too long."""

    def __init__(
        self, ids: Sequence[str], starts: Sequence[int], limit: int = 1000, gateway: bool = False
    ) -> None:
        self.runs = [
            {
                "info": {"run_id": run_id, "status": "FINISHED", "start_time": start},
                "data": {"tags": [{"key": names.KIND, "value": names.RUN}]},
            }
            for start, run_id in sorted(zip(starts, ids, strict=True))
        ]
        self.limit, self.gateway = limit, gateway
        self.sizes: list[int] = []

    def answer(
        self, host_creds: object, endpoint: str, method: str, *, json: dict[str, Any], **_: object
    ) -> requests.Response:
        size, condition = json["max_results"], json["filter"]
        self.sizes.append(size)
        if size > self.limit and self.gateway:
            return response(504, "the server took too long")
        if size > self.limit:
            raise MlflowException(f"API request to {endpoint} failed: Read timed out.")
        letter = re.search(r"attributes.run_id LIKE '(.)%'", condition)
        earliest = re.search(r"attributes.start_time >= (\d+)", condition)
        runs = [
            run
            for run in self.runs
            if (letter is None or run["info"]["run_id"].startswith(letter[1]))
            and (earliest is None or run["info"]["start_time"] >= int(earliest[1]))
        ]
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


def make_store() -> Store:
    uri = "http://127.0.0.1:1"
    return Store(uri, MlflowClient(uri))


@given(starts=st.lists(st.integers(0, 3), min_size=1, max_size=60), hexadecimal=st.booleans())
def test_every_run_of_a_server_is_read_once(starts: list[int], hexadecimal: bool) -> None:
    """Also where several runs have started at the same moment, and ids are of another kind."""
    ids = [("" if hexadecimal else "run-") + uuid.uuid4().hex for _ in starts]
    server = SearchServer(ids, starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlflow.utils.rest_utils.http_request", server.answer)
        patch.setattr(pages, "_FIRST_PAGE", 9)
        patch.setattr(pages, "_SERVER_PAGE", 7)
        found = runs_of_kind(make_store(), "1", names.RUN)
    assert sorted(row.run_id for row in found) == sorted(ids)
    assert len(server.sizes) <= 1 + 16 + len(ids) / 7 + 1


@pytest.mark.parametrize("gateway", [False, True], ids=["client", "gateway"])
def test_pages_that_take_a_server_too_long_become_smaller(
    gateway: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablation.tracking.retry.FIRST_PAUSE_S", 0.0)
    ids = [uuid.uuid4().hex for _ in range(300)]
    server = SearchServer(ids, range(300), 60, gateway)
    monkeypatch.setattr("mlflow.utils.rest_utils.http_request", server.answer)
    found = runs_of_kind(make_store(), "1", names.RUN)
    assert sorted(row.run_id for row in found) == sorted(ids)
    assert min(server.sizes) >= pages._SMALLEST_PAGE


def test_what_a_server_refuses_is_not_read_as_an_empty_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = response(403, {"error_code": "PERMISSION_DENIED", "message": "not yours"})
    monkeypatch.setattr("mlflow.utils.rest_utils.http_request", lambda *a, **k: refusal)
    with pytest.raises(MlflowException, match="not yours"):
        runs_of_kind(make_store(), "1", names.RUN)
