"""Read the runs of an experiment page by page.

A server's JSON is read as it is: MLflow's client makes three objects of each metric, parameter and
tag, which takes longer than everything else that a plan does (`docs/benchmarks/thousand-runs.md`).
"""

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from ablation.tracking import names
from ablation.tracking.retry import retry_until_available
from ablation.tracking.rows import RunRow, row_of_json, to_row
from ablation.tracking.store import Store
from ablation.tracking.uris import is_http, is_remote

if TYPE_CHECKING:
    from mlflow.store.tracking.rest_store import RestStore

#: Runs per request to a local store; answers are built in memory.
_PAGE: Final = 1000
#: Runs per request to a server, which takes some 8 ms of a core for each: a request of 1,000 to a
#: busy one would run into MLflow's time limit.
_SERVER_PAGE: Final = 250
#: A page that took longer than a request may take is asked for in halves, down to this many runs.
_SMALLEST_PAGE: Final = 25
_SEARCH: Final = "/api/2.0/mlflow/runs/search"


@dataclass(frozen=True)
class Page:
    """The runs of one answer, and the token that asks for the next one; None after the last."""

    rows: Sequence[RunRow]
    next_token: str | None = None


def runs_of_kind(store: Store, experiment: str, kind: str) -> Collection[RunRow]:
    """Return the experiment's runs of one kind, in no order; deleted runs are left out.

    Raises:
        RunError: The server is unreachable.
    """
    if not is_remote(store.uri):
        return [row for page in _pages(store, experiment, kind, "ASC", _PAGE) for row in page.rows]
    oldest = _pages(store, experiment, kind, "ASC", _SERVER_PAGE)
    newest = _pages(store, experiment, kind, "DESC", _SERVER_PAGE)
    return from_both_ends(oldest, newest)


def from_both_ends(oldest: Iterator[Page], newest: Iterator[Page]) -> Collection[RunRow]:
    """Read pages from the oldest run on and from the newest one back, until the two have met.

    Two requests are under way at a time: most of the time is the server's. If the first page of
    `oldest` is the last one, nothing else is read.
    """
    pages = [next(oldest)]
    rows = {row.run_id: row for row in pages[0].rows}
    if pages[0].next_token is None:
        return rows.values()
    latest, earliest = pages[0].rows[-1].start_time, pages[0].rows[-1].start_time + 1
    with ThreadPoolExecutor(2) as pool:
        # Runs may have started at once: those of the last moment that was read may go on.
        while latest <= earliest:
            pages = list(pool.map(next, (oldest, newest)))
            rows |= {row.run_id: row for page in pages for row in page.rows}
            if any(page.next_token is None for page in pages):  # one end has read everything
                break
            latest, earliest = (page.rows[-1].start_time for page in pages)
    return rows.values()


def _pages(
    store: Store, experiment: str, kind: str, order: Literal["ASC", "DESC"], size: int
) -> Iterator[Page]:
    search: dict[str, Any] = {
        "experiment_ids": [experiment],
        "filter_string": f"tags.`{names.KIND}` = '{kind}'",
        "max_results": size,
        "order_by": [f"attributes.start_time {order}"],
    }
    ask = _ask_server if is_http(store.uri) else _ask_client
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
        answer = http_request(rest.get_host_creds(), _SEARCH, "POST", json=body)
    except MlflowException as error:
        if "timed out" in str(error).lower():
            search["max_results"] = max(search["max_results"] // 2, _SMALLEST_PAGE)
        raise
    if answer.status_code != 200:  # raises; of a whole page it would read the JSON once more
        verify_rest_response(answer, _SEARCH)
    found = json.loads(answer.content)
    return Page(
        [row_of_json(run) for run in found.get("runs", ())], found.get("next_page_token") or None
    )
