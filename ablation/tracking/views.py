"""Describe an experiment on its page in MLflow, and give it ready-made views of its runs.

A shared view is an experiment tag with the state of MLflow's own table and charts. That state is an
internal format of the versions in `VIEW_VERSIONS`; in others the views are left out.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import mlflow

from ablation.tracking import names
from ablation.tracking.retry import retry_until_available
from ablation.tracking.store import Store

#: The versions of MLflow whose views were looked at in a browser.
VIEW_VERSIONS: Final = ("3.17.",)
_TAG: Final = "mlflow.sharedViewState."
#: MLflow cuts an experiment's tag here.
_LONGEST_NOTE: Final = 20_000
#: Opens an experiment on its runs, instead of on traces of language models.
WORKFLOW: Final = "workflowType=machine_learning"


@dataclass(frozen=True)
class Chart:
    """A chart of a view: a line by step, a bar for each run, or a scatter of two metrics."""

    kind: str
    metric: str
    versus: str = ""


@dataclass(frozen=True)
class View:
    """A view: its columns, its charts, and whether rows are means over seeds.

    Attributes:
        name: Its name in MLflow's menu.
        columns: Metrics that the table shows.
        charts: Charts, in order.
        grouped: Show one row for each variant and split, with the mean over seeds.
        sort_by: The metric that the table is sorted by, highest first.
    """

    name: str
    columns: tuple[str, ...]
    charts: tuple[Chart, ...] = ()
    grouped: bool = False
    sort_by: str = "best/dev_pearson"


#: Test scores are sealed: only the view that is named for them shows them.
_SCORES: Final = ("best/dev_pearson", "best/dev_pearson_seen", "best/dev_pearson_unseen")
#: The views by their key in a link.
VIEWS: Final[Mapping[str, View]] = {
    "results": View("Results", _SCORES, grouped=True),
    "curves": View(
        "Figure 4/5: training Pearson",
        ("train/pearson",),
        (Chart("LINE", "train/pearson"), Chart("LINE", "dev/pearson")),
        grouped=True,
    ),
    "dev-test": View(
        "Development against test",
        ("best/dev_pearson", "test/pearson"),
        (Chart("SCATTER", "best/dev_pearson", "test/pearson"),),
    ),
    "cost": View(
        "Cost",
        ("cost/seconds", "cost/tokens_per_second", "cost/peak_memory_bytes"),
        (Chart("BAR", "cost/seconds"), Chart("BAR", "cost/tokens_per_second")),
        grouped=True,
        sort_by="cost/seconds",
    ),
}


def all_views(languages: Sequence[str]) -> dict[str, View]:
    """Return every view by its key; *Languages* has a bar for each of these."""
    bars = tuple(Chart("BAR", f"best/dev_pearson_{language}") for language in languages)
    columns = tuple(chart.metric for chart in bars)
    return {**VIEWS, "languages": View("Languages", columns, bars, grouped=True)}


def has_views() -> bool:
    """Return whether views are written for the installed version of MLflow."""
    return mlflow.__version__.startswith(VIEW_VERSIONS)


def view_fragment(experiment: str, key: str = "") -> str:
    """Return a link's part after the UI's address: an experiment's runs, or one of its views."""
    if not key:
        return f"#/experiments/{experiment}/runs?{WORKFLOW}"
    mode = "" if key == "results" else "&compareRunsMode=CHART"
    return f"#/experiments/{experiment}/runs?viewStateShareKey={key}&{WORKFLOW}{mode}"


def describe_experiment(
    store: Store, experiment: str, table: str, languages: Sequence[str], rows: Sequence[str]
) -> str:
    """Write an experiment's description, with the table of results, and its views.

    Args:
        store: The experiment's store.
        experiment: Its id.
        table: The table of results, in Markdown.
        languages: Languages with a score.
        rows: The values of the tag `names.ROW` among its runs.

    Returns:
        "", or why there are no views.
    """
    views = all_views(languages) if has_views() else {}
    links = [f"- [{view.name}]({view_fragment(experiment, key)})" for key, view in views.items()]
    note = "\n".join([table.strip(), "", *(["**Views**", "", *links] if links else [])])
    tags = {names.NOTE: note[:_LONGEST_NOTE]}
    now = time.time_ns() // 1_000_000
    for key, view in views.items():
        shared = {
            "name": view.name,
            "createdAt": now,
            "updatedAt": now,
            "state": json.dumps(view_state(view, rows)),
        }
        tags[f"{_TAG}{key}"] = json.dumps(shared)
    for name, value in tags.items():
        retry_until_available(
            lambda name=name, value=value: store.client.set_experiment_tag(  # type: ignore[misc]
                experiment, name, value
            ),
            store.uri,
        )
    if views:
        return ""
    return f"MLflow {mlflow.__version__}: its views have another format, so none are written"


def view_state(view: View, rows: Sequence[str]) -> dict[str, Any]:
    """Return a view as MLflow's UI keeps its own state."""
    columns = ["attributes.`Source`", *(f"metrics.`{name}`" for name in view.columns)]
    sections = [
        {
            "uuid": "charts",
            "name": view.name,
            "display": True,
            "isReordered": True,
            "deleted": False,
            "isGenerated": False,
        }
    ]
    state: dict[str, Any] = {
        "searchFilter": f"tags.`{names.KIND}` = '{names.RUN}'",
        "orderByKey": f"metrics.`{view.sort_by}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunSections": sections,
        "compareRunCharts": [_chart(chart, i) for i, chart in enumerate(view.charts)],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }
    if view.grouped:
        state["groupBy"] = {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": names.ROW}],
        }
        state["groupsExpanded"] = {f"tag.{names.ROW}.{row}": False for row in rows}
        state["useGroupedValuesInCharts"] = True
    return state


def _chart(chart: Chart, number: int) -> dict[str, Any]:
    common = {
        "uuid": f"chart-{number}",
        "type": chart.kind,
        "metricSectionId": "charts",
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 30,
    }
    if chart.kind == "SCATTER":
        axes = {
            "xaxis": {"type": "METRIC", "key": chart.metric},
            "yaxis": {"type": "METRIC", "key": chart.versus},
        }
        return common | axes
    if chart.kind == "BAR":
        return common | {"metricKey": chart.metric}
    return common | {
        "metricKey": chart.metric,
        "selectedMetricKeys": [chart.metric],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "ignoreOutliers": False,
        "range": {},
        "useGlobalXaxisKey": False,
        "useGlobalLineSmoothing": False,
    }
