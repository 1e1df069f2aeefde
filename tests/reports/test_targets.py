"""Several targets of one corpus: one report, and one family of comparisons over all of them."""

from collections.abc import Callable

import pytest

from ablation.config.variants import TABLE_3
from ablation.core.slugs import slug
from ablation.data.layout import ColumnsTable, CorpusLayout, GroupTable, LabelTable
from reports.analysis.own_task import comparison_family
from reports.build import list_numbers
from reports.contents import compose
from tests.reports.conftest import Made

LAYOUT = CorpusLayout(
    columns=ColumnsTable(text=("text",), label=("V", "A", "long V"), group=("language",)),
    group=GroupTable(kind="language"),
    label=LabelTable(lowest=0, highest=5),
)
NOISE = {"V": {"mse": 1.2, "epm": 0.2}, "long V": {"mse": 0.6, "epm": 0.59}}


@pytest.fixture
def made(experiment: Callable[..., Made]) -> Made:
    """Write runs on two of three targets, and on another corpus with a target of the same name."""
    other = LAYOUT.model_copy(update={"label": LabelTable(lowest=0, highest=9)})
    experiment(corpus_name="other-a", layout=other, data="c" * 40, reference="none")
    for name, data in (("V", "a"), ("long V", "b")):
        made = experiment(
            corpus_name=f"emo-{slug(name)}",
            layout=LAYOUT,
            data=data * 40,
            noise=NOISE[name],
            reference="none",
            seed=ord(data),
        )
    return made


def test_p_is_adjusted_for_the_comparisons_on_all_targets_of_the_corpus(made: Made) -> None:
    inputs = made.inputs()
    assert list(inputs.targets) == ["V", "long V"]
    assert inputs.targets["long V"] is inputs.measurements
    found = {comparison.target: comparison for comparison in inputs.comparisons}
    assert list(found) == ["V", "long V"]
    assert found["V"].answer == "better"
    assert found["long V"].answer in ("no difference", "undecided")
    family = found["V"].family
    assert family == found["long V"].family
    assert family.size == 3 * comparison_family(TABLE_3, ("mse", "epm")).size
    assert found["V"].p_family == pytest.approx(family.size * found["V"].p)


def test_the_report_says_the_same_of_either_target(made: Made) -> None:
    shown = [list_numbers(compose(made.inputs(group=group))) for group in (1, 2)]
    texts = [[cell["text"] for cell in tables["comparisons"]] for tables in shown]
    assert texts[0] == texts[1]
    assert {cell["column"] for cell in shown[0]["targets"]} == {"Method", "V", "long V"}
    warnings = compose(made.inputs()).warnings
    assert any("12 further runs" in line for line in warnings)


def test_a_corpus_with_one_target_has_no_such_section(experiment: Callable[..., Made]) -> None:
    one = LAYOUT.model_copy(update={"columns": ColumnsTable(label=("V",), group=("language",))})
    for data in ("a", "b"):
        made = experiment(corpus_name="emo", layout=one, data=data * 40, reference="none")
    inputs = made.inputs()
    assert inputs.targets == {}
    assert {comparison.target for comparison in inputs.comparisons} == {""}
    assert "targets" not in list_numbers(compose(inputs))
