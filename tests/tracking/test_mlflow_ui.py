"""The MLflow UI, served on loopback and opened in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from rich.console import Console

from ablation.cli.console import ui_command
from ablation.runs.progress import Progress
from ablation.runs.request import RunRequest, resolve_run
from ablation.runs.runner import run_plan
from ablation.tracking.store import open_store
from ablation.tracking.views import all_views, view_fragment
from reports.build import ReportRequest, build
from tests.conftest import some_rows, write_corpus
from tests.tracking.servers import PATIENCE_S, Server

# On a busy machine a page takes longer than the default of five seconds.
expect.set_options(timeout=PATIENCE_S * 1000)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def store_uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    folder = tmp_path_factory.mktemp("ui")
    seen = ("en", "es", "fr", "zh")
    corpus = write_corpus(folder / "corpus", some_rows(20, seen), some_rows(6, seen, start=100))
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    request = RunRequest(
        data=str(corpus),
        profile="smoke",
        variants=("mse", "ensemble"),
        splits=("dev1",),
        tracking_uri=uri,
    )
    with (folder / "log").open("w") as log:
        run_plan(resolve_run(request), Progress(Console(file=log)))
    return uri


@pytest.fixture(scope="module")
def server(store_uri: str) -> Iterator[Server]:
    """The command that the README and the commands' output name."""
    server = Server([*ui_command(store_uri).split(" "), "--workers", "1"])
    yield server
    server.kill()


def test_it_listens_on_loopback_alone(server: Server) -> None:
    addresses = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == server.port
    }
    assert addresses == {"127.0.0.1"}


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1500, "height": 900})
        opened.set_default_timeout(PATIENCE_S * 1000)
        yield opened
        browser.close()


def test_the_list_shows_the_suite_and_below_it_its_runs(
    page: Page, server: Server, store_uri: str
) -> None:
    experiment = open_store(store_uri).client.get_experiment_by_name("ablation")
    assert experiment is not None
    page.goto(f"{server.uri}/#/experiments/{experiment.experiment_id}/runs")
    expect(page.get_by_text("corpus: mse,ensemble (smoke)")).to_be_visible()
    expect(page.get_by_text("mse dev1 seed 0")).to_have_count(0)
    page.locator(".ag-row button").first.click()
    expect(page.get_by_text("mse dev1 seed 0")).to_be_visible()
    expect(page.get_by_text("ensemble dev1 seed 0")).to_be_visible()


@pytest.mark.parametrize("key", all_views(("en", "es", "fr", "zh")))
def test_a_shared_view_opens_by_its_link_with_its_charts(
    key: str, page: Page, server: Server, store_uri: str
) -> None:
    experiment = open_store(store_uri).client.get_experiment_by_name("ablation")
    assert experiment is not None
    view = all_views(("en", "es", "fr", "zh"))[key]
    page.goto(f"{server.uri}/{view_fragment(experiment.experiment_id, key)}")
    expect(page.get_by_text("You're viewing a shared view")).to_be_visible()
    if view.grouped:
        expect(page.get_by_text("Group: mse · dev1").first).to_be_visible()
    else:
        expect(page.get_by_text("mse dev1 seed 0").first).to_be_visible()
    if not view.charts:
        return
    expect(page.get_by_text(f"({len(view.charts)})", exact=True).first).to_be_visible()
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    for number, chart in enumerate(view.charts):
        card = cards.nth(number)
        card.scroll_into_view_if_needed()
        expect(card).to_contain_text(chart.metric.rpartition("/")[2])
        expect(card.locator(".js-plotly-plot").first).to_be_visible()


def test_a_run_shows_its_training_curves(page: Page, server: Server, store_uri: str) -> None:
    client = open_store(store_uri).client
    experiment = client.get_experiment_by_name("ablation")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`ablation.variant` = 'mse'")
    page.goto(
        f"{server.uri}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}/model-metrics"
    )
    page.get_by_placeholder("Search metric charts").fill("train/pearson")
    card = page.get_by_test_id("experiment-view-compare-runs-card")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("pearson")


def test_the_report_opens_among_the_suites_artifacts(
    page: Page, server: Server, store_uri: str, tmp_path: Path
) -> None:
    built = build(ReportRequest(tracking_uri=store_uri), tmp_path / "report")
    experiment = open_store(store_uri).client.get_experiment_by_name("ablation")
    assert experiment is not None
    page.goto(
        f"{server.uri}/#/experiments/{experiment.experiment_id}/runs/{built.suite}/artifacts/report/report.html"
    )
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="Ablation report: ablation")).to_be_visible()
    report.locator("#t-table3 tr.heads th button").nth(2).click()
    expect(report.locator("#t-table3 th[aria-sort=ascending]")).to_have_count(1)
