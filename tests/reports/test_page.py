"""The HTML page in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from reports.build import build
from tests.reports.conftest import Made


@pytest.fixture(scope="module")
def report(table_3: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build(
        table_3.request(ui_url="http://ui.example:5000"),
        tmp_path_factory.mktemp("page") / "report",
        log=False,
    )
    return built.folder / "report.html"


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#t-{table} tbody tr td:nth-child({number})").all_inner_texts()


def test_the_page_works_by_itself(report: Path, chromium: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())

        for image in page.locator("img").all():
            assert image.evaluate("i => i.complete && i.naturalWidth > 0")

        # Small print stands below its figure, not across the next one.
        for cell in page.locator("#t-table3 td:has(small)").all():
            figure, small = (
                cell.locator(part).bounding_box() for part in (":scope > :first-child", "small")
            )
            assert figure
            assert small
            assert small["y"] >= figure["y"] + figure["height"] - 1
            assert small["x"] + small["width"] <= figure["x"] + figure["width"] + 1

        heads = page.locator("#t-verdicts tr.heads th button")
        means = 4
        heads.nth(means - 1).click()
        values = [float(v.replace("−", "-")) for v in column(page, "verdicts", means) if v != "–"]
        assert values == sorted(values)
        assert column(page, "verdicts", means)[-1] == "–"  # what is empty stands last
        heads.nth(means - 1).click()
        values = [float(v.replace("−", "-")) for v in column(page, "verdicts", means) if v != "–"]
        assert values == sorted(values, reverse=True)
        heads.nth(0).click()
        assert column(page, "verdicts", 1) == sorted(column(page, "verdicts", 1), key=str.lower)

        # A number leads to its runs, a run to its page in the MLflow UI.
        number = page.locator("#t-table3 a.runs").first
        target = str(number.get_attribute("href"))
        assert page.locator(f"[id='{target[1:]}'] a").get_attribute("href", timeout=5000) == (
            f"http://ui.example:5000/#/experiments/1/runs/{target.removeprefix('#run-')}"
            "?workflowType=machine_learning"
        )
        assert said == []
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        browser.close()


def test_runs_can_be_hovered_over_and_filtered_by_rows_and_language(
    report: Path, chromium: str
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(report.as_uri())
        figure = page.locator("figure.explorer")
        rows, language = figure.locator("select").all()
        points = figure.locator(".plot .point")
        heights: dict[tuple[str, str], list[str]] = {}
        for chosen in (("Dev1", "all"), ("test", "all"), ("test", "ko"), ("Dev2", "it")):
            rows.select_option(chosen[0])
            language.select_option(chosen[1])
            assert points.count() == 7 * 3
            assert figure.locator("output").inner_text() == "21 runs"
            transforms = [str(p.get_attribute("transform")) for p in points.all()]
            heights[chosen] = transforms
        assert len({tuple(transforms) for transforms in heights.values()}) == 4
        rows.select_option("Dev1")  # ko has no training rows
        assert language.locator("option").all_inner_texts() == [
            "all languages",
            *("Chinese", "English", "French", "Italian"),
        ]
        points.first.hover(force=True)
        hovered = str(figure.locator(".hoverlayer .hovertext").text_content())
        assert "seed 0" in hovered
        assert "run " in hovered
        assert report.stat().st_size < 6_500_000
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_on_a_phone_light_and_dark(
    report: Path, chromium: str, scheme: str
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(report.as_uri())
        assert (
            page.evaluate("document.documentElement.scrollWidth") <= 390
        )  # wide tables scroll by themselves
        ink, paper = page.evaluate(
            "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
        )
        luminance = [sum(int(v) for v in colour[4:-1].split(",")) / 3 for colour in (ink, paper)]
        assert abs(luminance[0] - luminance[1]) > 120
        assert (luminance[1] < 100) == (scheme == "dark")
        browser.close()
