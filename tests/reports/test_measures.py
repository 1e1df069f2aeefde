"""Every figure comes from stored predictions, paired by row and seed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablation.tracking import names
from reports.analysis.collect import read_tables
from reports.analysis.inputs import ReportInputs
from reports.analysis.predictions import AlignedPredictions
from reports.analysis.printed import printed_score, printed_step
from reports.analysis.subsets import TEST, EvalSubset
from reports.analysis.variance_components import pearson_influence
from tests.reports.conftest import HELD_OUT, SEEN, UNSEEN, Made


@pytest.fixture(scope="module")
def found(table_3: Made) -> ReportInputs:
    return table_3.inputs()


@pytest.mark.parametrize(
    ("measure", "languages"),
    [
        (EvalSubset("dev1"), SEEN),
        (EvalSubset("dev2", "unseen"), HELD_OUT),
        (EvalSubset("dev2", "seen"), tuple(set(SEEN) - set(HELD_OUT))),
        (EvalSubset(TEST), (*SEEN, *UNSEEN)),
        (EvalSubset(TEST, "seen"), SEEN),
        (EvalSubset(TEST, "unseen"), UNSEEN),
        (EvalSubset(TEST, "ko"), ("ko",)),
    ],
)
def test_a_cell_is_the_mean_over_seeds_of_scipys_pearson(
    found: ReportInputs, measure: EvalSubset, languages: tuple[str, ...]
) -> None:
    path = names.TEST_PREDICTIONS if measure.eval_set == TEST else names.DEV_PREDICTIONS
    runs = [
        r
        for r in found.group.runs
        if r.variant == "epm"
        and r.split == ("dev1" if measure.eval_set == TEST else measure.eval_set)
    ]
    expected = []
    for frame in read_tables(found.experiment, runs, path).values():
        assert frame is not None
        rows = frame[frame["language"].isin(languages)]
        expected.append(stats.pearsonr(rows["prediction"], rows["label"]).statistic)
    cell = found.measurements.cell("epm", measure)
    assert cell.seeds == (0, 1, 2)
    assert cell.per_seed == pytest.approx(expected)
    assert cell.mean == pytest.approx(np.mean(expected))
    assert cell.sd == pytest.approx(np.std(expected, ddof=1))
    assert set(cell.runs) == {r.run_id for r in runs}


def test_a_step_is_paired_by_seed_and_row(found: ReportInputs) -> None:
    measure = EvalSubset(TEST)
    a, b, step = (
        found.measurements.cell("mse", measure),
        found.measurements.cell("epm", measure),
        found.measurements.step("mse", "epm", measure),
    )
    assert step.per_seed == pytest.approx(b.per_seed - a.per_seed)
    # Rows share their hardness among runs: paired, the difference is surer than two cells apart.
    assert step.over_rows.half_width < np.hypot(a.over_rows.half_width, b.over_rows.half_width)
    assert step.p < 0.05
    nothing = found.measurements.step("epm", "epm+cl", measure)
    assert 0.0 in nothing.interval


def test_the_widest_interval_is_over_rows_and_seeds(found: ReportInputs) -> None:
    cell = found.measurements.cell("epm", EvalSubset(TEST))
    assert cell.interval.half_width > cell.over_rows.half_width


def test_intervals_do_not_depend_on_which_other_runs_there_are(
    experiment: Callable[..., Made], found: ReportInputs
) -> None:
    alone = experiment(noise={"mse": 1.2}, seeds=(0, 1, 2), rows=40).inputs().measurements
    for measure in (EvalSubset("dev1"), EvalSubset(TEST, "unseen")):
        interval, other = (
            alone.cell("mse", measure).over_rows,
            found.measurements.cell("mse", measure).over_rows,
        )
        assert (interval.low, interval.high) == pytest.approx((other.low, other.high))


def test_one_seed_has_no_interval_over_seeds(experiment: Callable[..., Made]) -> None:
    step = (
        experiment(seeds=(4,), rows=40).inputs().measurements.step("mse", "epm", EvalSubset("dev1"))
    )
    assert step.seeds == (4,)
    assert np.isnan([step.sd, step.over_seeds.low]).all()
    assert step.interval == step.over_rows
    assert np.isfinite(step.interval.low)


def test_without_test_labels_nothing_is_scored_on_them(experiment: Callable[..., Made]) -> None:
    measured = experiment(labelled=False, rows=20, seeds=(0,)).inputs().measurements
    assert not measured.has_test
    assert measured.analysed_set == "dev1"
    assert not measured.cell("mse", EvalSubset(TEST, "unseen")).exists
    assert EvalSubset(TEST, "unseen") in measured.columns  # the column stands, empty


def test_a_collapsed_run_has_no_pearson_and_is_left_out_of_no_mean_in_silence(
    experiment: Callable[..., Made],
) -> None:
    measured = (
        experiment(noise={"mse": 0.5, "mse+cl": 0.5}, collapsed=("mse+cl",), rows=20, seeds=(0, 1))
        .inputs()
        .measurements
    )
    assert not measured.cell("mse+cl", EvalSubset("dev1")).exists
    assert measured.cell("mse", EvalSubset("dev1")).exists
    assert not measured.step("mse", "mse+cl", EvalSubset("dev1")).exists


def test_runs_on_other_rows_share_no_interval(experiment: Callable[..., Made]) -> None:
    experiment(noise={"mse": 0.5}, rows=20, seeds=(0,), splits=("dev1",))
    made = experiment(noise={"mse": 0.5}, rows=30, seeds=(1,), splits=("dev1",), data="x" * 40)
    cell = made.inputs(mixed=True).measurements.cell("mse", EvalSubset("dev1"))
    assert cell.seeds == (0, 1)
    assert np.isnan(cell.over_rows.low)


def test_the_papers_cells_are_those_of_table_3() -> None:
    assert printed_score("epm", EvalSubset("dev1")) == pytest.approx(0.6886)
    assert printed_score("epm", EvalSubset("dev2:fr+it")) == pytest.approx(0.7047)
    assert printed_score("ensemble", EvalSubset(TEST)) == pytest.approx(0.567)
    assert np.isnan(printed_score("mse", EvalSubset(TEST)))
    assert printed_step("mse", "epm", EvalSubset(TEST, "unseen")) == pytest.approx(0.0746)


def test_a_mean_over_languages_has_an_interval_and_every_score_its_rows(
    experiment: Callable[..., Made],
) -> None:
    """Finding 18: of development rows, too."""
    measurements = experiment(splits=("dev2",), rows=60).inputs().measurements
    for column in (EvalSubset(TEST), EvalSubset("dev2")):
        languages = measurements.languages_of(column)
        each = [measurements.cell("epm", EvalSubset(column.eval_set, x)) for x in languages]
        mean = measurements.language_mean("epm", column)
        assert [cell.rows for cell in each] == [60] * len(languages)
        assert mean.rows == 60 * len(languages)
        assert mean.mean == pytest.approx(np.mean([cell.mean for cell in each]))
        assert mean.over_rows.low < mean.mean < mean.over_rows.high
        # Languages are independent samples of rows.
        variances = [float(c.of_rows.variance) for c in each if c.of_rows]
        assert mean.of_rows is not None
        assert float(mean.of_rows.variance) == pytest.approx(sum(variances) / len(each) ** 2)


def test_influences_on_many_runs_are_those_on_each_run_by_itself() -> None:
    rng = np.random.default_rng(0)
    label, predictions = rng.normal(size=30), rng.normal(size=(30, 37))
    language = np.array(["en", "fr"] * 15, dtype=object)
    runs = tuple(map(str, range(37)))
    sample = AlignedPredictions("dev1", runs, np.arange(30), label, language, predictions, ())
    french = language == "fr"
    each = [pearson_influence(column, label[french])[1] for column in predictions[french].T]
    assert sample.influences("fr").tolist() == [values.tolist() for values in each]


@pytest.mark.parametrize("part", ["seen", "unseen"])
def test_test_rows_of_seen_languages_alone_are_one_column(found: ReportInputs, part: str) -> None:
    """Else each step would stand there twice, and count twice in its family."""

    def cut(sample: AlignedPredictions) -> AlignedPredictions:
        keep = sample.rows_of(part)
        return AlignedPredictions(
            sample.eval_set,
            sample.runs,
            sample.row[keep],
            sample.label[keep],
            sample.language[keep],
            sample.predictions[keep],
            sample.unseen,
        )

    both = found.measurements
    samples = tuple(cut(s) if s.eval_set == TEST else s for s in both.samples)
    one = replace(both, samples=samples)
    assert [c.languages for c in both.columns if c.is_test] == ["seen", "unseen", "all"]
    assert [c.languages for c in one.columns if c.is_test] == ["all"]
    assert [c.languages for c in one.single_columns if c.is_test] == ["all"]
