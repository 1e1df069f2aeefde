"""Read the runs of an experiment page by page.

A server's JSON is read as it is: MLflow's client makes three objects of each metric, parameter and
tag, which takes longer than everything else that a plan does (`docs/benchmarks/thousand-runs.md`).
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ablation.tracking import names
from ablation.tracking.retry import retry_until_available
from ablation.tracking.rows import RunRow, row_of_json, to_row
from ablation.tracking.store import Store
from ablation.tracking.uris import is_http

if TYPE_CHECKING:
    from mlflow.store.tracking.rest_store import RestStore

#: Runs per request to a database; answers are built in memory.
_PAGE: Final = 1000
#: Runs per request to a server, which takes some 8 to 15 ms of a core for each: a request of 1,000
#: to a busy one would run into MLflow's time limit.
_SERVER_PAGE: Final = 250
#: Runs of a server's first page.
_FIRST_PAGE: Final = 100
#: A page that took longer than a request may take is asked for in halves, down to this many runs.
_SMALLEST_PAGE: Final = 25
#: Requests to a server under way at a time: most of the time is the server's.
_AT_ONCE: Final = 4
#: MLflow's run ids are random and begin with one of these, so these make parts of equal size.
_FIRST_LETTERS: Final = "0123456789abcdef"
_SEARCH: Final = "/api/2.0/mlflow/runs/search"
#: MLflow's words for a request that took too long, and for a gateway that gave the server up.
_TOO_SLOW: Final = re.compile(r"timed out|\b504\b", re.IGNORECASE)
#: A server's processes take connections as they are free. One that stays open stays with its
#: process, and half the time two of them with the same one.
_NEW_CONNECTION: Final = {"Connection": "close"}


@dataclass(frozen=True)
class Page:
    """The runs of one answer, and the token that asks for the next one; None after the last."""

    rows: Sequence[RunRow]
    next_token: str | None = None


def runs_of_kind(store: Store, experiment: str, kind: str) -> Collection[RunRow]:
    """Return the experiment's runs of one kind, in no order; deleted runs are left out.

    A server is asked for one page, and if that is not all, for sixteen parts side by side.

    Raises:
        RunError: The server is unreachable.
    """
    condition = f"tags.`{names.KIND}` = '{kind}'"
    if not is_http(store.uri):
        return _all_pages(store, experiment, condition)
    first = next(_pages(store, experiment, condition, _FIRST_PAGE))
    if first.next_token is None:
        return first.rows
    if any(row.run_id[0] not in _FIRST_LETTERS for row in first.rows):
        return _all_pages(store, experiment, condition)
    # Several runs may have started at the moment at which the page ends.
    rest = f"{condition} and attributes.start_time >= {first.rows[-1].start_time}"
    conditions = [f"{rest} and attributes.run_id LIKE '{one}%'" for one in _FIRST_LETTERS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        parts = pool.map(partial(_all_pages, store, experiment), conditions)
    return list({row.run_id: row for rows in (first.rows, *parts) for row in rows}.values())


def _all_pages(store: Store, experiment: str, condition: str) -> list[RunRow]:
    return [row for page in _pages(store, experiment, condition) for row in page.rows]


def _pages(store: Store, experiment: str, condition: str, size: int = 0) -> Iterator[Page]:
    ask, largest = (_ask_server, _SERVER_PAGE) if is_http(store.uri) else (_ask_client, _PAGE)
    search: dict[str, Any] = {
        "experiment_ids": [experiment],
        "filter_string": condition,
        "max_results": size or largest,
        "order_by": ["attributes.start_time ASC"],
    }
    while True:
        page = retry_until_available(partial(ask, store, search), store.uri)
        yield page
        if page.next_token is None:
            return
        search["page_token"] = page.next_token


def _ask_client(store: Store, search: dict[str, Any]) -> Page:
    found = store.client.search_runs(**search)
    return Page([to_row(run) for run in found], found.token or None)


def _ask_server(store: Store, search: dict[str, Any]) -> Page:
    """Ask an MLflow server, with the credentials and the time limit of MLflow's client.

    `search["max_results"]` is halved if the answer took too long, for the next attempt.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    rest: RestStore = store.client._tracking_client.store
    body = {name: value for name, value in search.items() if name != "filter_string"}
    body["filter"] = search["filter_string"]
    try:
        answer = http_request(
            rest.get_host_creds(), _SEARCH, "POST", extra_headers=_NEW_CONNECTION, json=body
        )
        if answer.status_code != 200:  # raises; of a whole page it would read the JSON once more
            verify_rest_response(answer, _SEARCH)
    except MlflowException as error:
        if _TOO_SLOW.search(str(error)):
            search["max_results"] = max(search["max_results"] // 2, _SMALLEST_PAGE)
        raise
    found = json.loads(answer.content)
    return Page(
        [row_of_json(run) for run in found.get("runs", ())], found.get("next_page_token") or None
    )
