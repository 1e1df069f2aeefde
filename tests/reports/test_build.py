"""A whole report: its files, its warnings about what it can't show, and its verification."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pypdf import PdfReader

from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.runs import start_run
from reports.analysis.collect import collect
from reports.build import ReportOutput, ReportRequest, build, read_inputs
from reports.contents import compose
from reports.rendering.blocks import Report
from reports.verify import verify
from tests.reports.conftest import Made, write_experiment
from tests.reports.test_tables import HOSTILE

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SMALL = {"splits": ("dev1",), "seeds": (0,), "rows": 10}


@pytest.fixture(scope="module")
def built(table_3: Made, tmp_path_factory: pytest.TempPathFactory) -> ReportOutput:
    return build(table_3.request(), tmp_path_factory.mktemp("built") / "report", when=NOON)


def composed(choice: ReportRequest) -> Report:
    """The report before anything is drawn or written."""
    return compose(read_inputs(choice))


def pdf_text(folder: Path) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(folder / "report.pdf").pages)


class TestFiles:
    def test_every_table_has_its_forms_and_every_figure_too(self, built: ReportOutput) -> None:
        tables = {f.name for f in (built.folder / "tables").iterdir()}
        figures = {f.name for f in (built.folder / "figures").iterdir()}
        for table in built.report.tables:
            assert {f"{table.id}.{suffix}" for suffix in ("csv", "md", "tex")} <= tables
        for picture in built.report.pictures:
            assert {f"{picture.id}.{suffix}" for suffix in ("pdf", "svg", "png")} <= figures
        assert len(tables) == 3 * len({t.id for t in built.report.tables})  # no two share a name
        wanted = {
            "figure1",
            "figure2",
            "figure3",
            "figure4",
            "figure5",
            "languages",
            "steps",
            "cost",
            "residuals",
            "calibration",
        }
        assert wanted <= {p.id for p in built.report.pictures}
        wanted = {
            "table1",
            "table2",
            "table3",
            "table4",
            "verdicts",
            "claims",
            "steps",
            "tests",
            "effects",
            "order",
            "runs",
            "cost",
        }
        assert wanted <= {t.id for t in built.report.tables}

    def test_all_of_it_is_logged_to_the_suite(self, built: ReportOutput, table_3: Made) -> None:
        logged = {
            f.path for f in table_3.store.client.list_artifacts(str(built.suite), "report/tables")
        }
        assert "report/tables/table3.tex" in logged
        assert len(logged) == 3 * len(built.report.tables)

    def test_every_number_of_a_score_leads_to_its_runs(self, built: ReportOutput) -> None:
        numbers = json.loads((built.folder / "numbers.json").read_text("utf-8"))
        ids = set(numbers["group"])
        assert len(ids) == 42
        for name in (
            "table3",
            "languages_test",
            "steps",
            "tests",
            "effects",
            "errors_label",
            "runs",
        ):
            cells = [c for c in numbers["tables"][name] if c["runs"]]
            assert cells, name
            assert all(set(c["runs"]) <= ids for c in cells)
        for cell in numbers["tables"]["table3"]:
            assert (cell["value"] is not None) == bool(cell["runs"])

    def test_the_pdf_says_on_every_page_what_data_it_is_of(self, built: ReportOutput) -> None:
        for page in PdfReader(built.folder / "report.pdf").pages:
            assert "data made-up (the paper's data)" in page.extract_text()

    def test_the_pages_say_how_often_the_test_rows_were_read(self, built: ReportOutput) -> None:
        """Finding 16: this report is counted, and says so."""
        counted = re.search(r"\([^)]*report \d+[^)]*\)", built.test_readings)
        assert counted
        for text in (pdf_text(built.folder), (built.folder / "report.html").read_text("utf-8")):
            assert counted[0] in " ".join(text.split())

    def test_the_same_runs_give_the_same_bytes(
        self,
        built: ReportOutput,
        table_3: Made,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("reports.build.count_reading", lambda *_: built.test_readings)
        again = build(table_3.request(), tmp_path / "again", log=False, when=NOON)
        files = sorted(f.relative_to(built.folder) for f in built.folder.rglob("*") if f.is_file())
        assert [
            str(f)
            for f in files
            if (built.folder / f).read_bytes() != (again.folder / f).read_bytes()
        ] == []
        assert files == sorted(
            f.relative_to(again.folder) for f in again.folder.rglob("*") if f.is_file()
        )

    def test_another_time_changes_the_pages_that_state_it_and_nothing_else(
        self,
        built: ReportOutput,
        table_3: Made,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("reports.build.count_reading", lambda *_: built.test_readings)
        again = build(
            table_3.request(),
            tmp_path / "again",
            log=False,
            when=datetime(2027, 2, 3, 4, 5, tzinfo=UTC),
        )
        differing = {
            f.name
            for f in built.folder.rglob("*")
            if f.is_file()
            and f.read_bytes() != (again.folder / f.relative_to(built.folder)).read_bytes()
        }
        assert differing == {"report.pdf", "report.html"}
        assert pdf_text(again.folder).replace("2027-02-03 04:05", "2026-01-01 12:00") == pdf_text(
            built.folder
        )

    def test_a_folder_with_something_else_in_it_is_left_alone(
        self, table_3: Made, tmp_path: Path
    ) -> None:
        (tmp_path / "thesis.tex").write_text("mine")
        with pytest.raises(UsageError, match="holds no report"):
            build(table_3.request(), tmp_path, log=False)
        assert (tmp_path / "thesis.tex").read_text() == "mine"

    @pytest.mark.usefixtures("undrawn")
    def test_a_report_that_was_broken_off_leaves_the_one_before(
        self, experiment: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, folder = experiment(**SMALL), tmp_path / "report"
        build(made.request(), folder, log=False)
        before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("reports.build.write_html", interrupted)
            with pytest.raises(KeyboardInterrupt):
                build(made.request(), folder, log=False)
        assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
        assert not list(tmp_path.glob(".report*"))
        # What version 0.1.0 left behind when it was killed is replaced.
        (folder / "numbers.json").unlink()
        build(made.request(), folder, log=False)
        assert (folder / "numbers.json").is_file()


SCRIPTS = "مرحبا नमस्ते 안녕 你好 😂"


@pytest.fixture(scope="module")
def hostile(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportOutput:
    """Give every row a hostile text, and Chinese ones all scripts: Table 1 is full of them."""
    folder = tmp_path_factory.mktemp("hostile")
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    made = write_experiment(
        uri,
        noise={"mse": 1.0},
        **SMALL,
        text=lambda language, i: SCRIPTS if language == "zh" else HOSTILE[i % len(HOSTILE)],
    )
    return build(made.request(), folder / "report", log=False)


class TestTweetsAreData:
    def test_the_pdf_has_the_characters_themselves(self, hostile: ReportOutput) -> None:
        shown = _squeezed(pdf_text(hostile.folder))
        for cell in _texts(hostile):
            if cell.isascii():
                assert _squeezed(cell) in shown

    def test_no_glyph_of_any_script_is_missing(self, hostile: ReportOutput) -> None:
        """Fonts embedded in the PDF cover Arabic, Devanagari, Korean, Chinese and emoji."""
        fonts = " ".join(
            str(f.get_object()["/BaseFont"])
            for page in PdfReader(hostile.folder / "report.pdf").pages
            for f in page["/Resources"].get("/Font", {}).values()  # type: ignore[attr-defined]
        )
        assert SCRIPTS in _texts(hostile)
        for font in ("NotoSansArabic", "NotoSansDevanagari", "NotoSansCJK", "NotoEmoji"):
            assert font in fonts

    def test_html_escapes_them(self, hostile: ReportOutput) -> None:
        page = (hostile.folder / "report.html").read_text("utf-8")
        assert "<script>alert(1)" not in page
        assert "<img src=x>" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp; &lt;b&gt;" in page
        assert page.count("<script>") == 3  # sorting, plotly, the explorer

    def test_csv_has_no_formula(self, hostile: ReportOutput) -> None:
        for file in (hostile.folder / "tables").glob("*.csv"):
            for row in csv.reader(file.open(encoding="utf-8", newline="")):
                for cell in row:
                    is_number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
                    assert is_number or not cell.lstrip().startswith(("=", "+", "-", "@")), (
                        file.name,
                        cell,
                    )


def _texts(built: ReportOutput) -> list[str]:
    return [
        c.text
        for t in built.report.tables
        if t.id in ("table1", "worst")
        for row in t.rows
        for c in row
        if c.language
    ]


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text).replace("’", "'").replace("“", '"').replace("”", '"')


class TestVerify:
    def test_a_finished_report_is_computed_again(self, built: ReportOutput, table_3: Made) -> None:
        assert verify(built.folder, table_3.request()) > 500

    def test_a_number_that_was_touched_is_found(
        self, built: ReportOutput, table_3: Made, tmp_path: Path
    ) -> None:
        numbers = json.loads((built.folder / "numbers.json").read_text("utf-8"))
        cell = next(c for c in numbers["tables"]["table3"] if c["value"])
        cell["value"] += 0.001
        (tmp_path / "numbers.json").write_text(json.dumps(numbers))
        with pytest.raises(RunError, match=r"table table3, row 1, Dev1: the report says"):
            verify(tmp_path, table_3.request())

    @pytest.mark.usefixtures("undrawn")
    def test_predictions_that_were_touched_are_found(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(**SMALL)
        built = build(made.request(), tmp_path / "report")
        run = collect(made.uri, made.name).runs[0]
        file = Path(run.artifact_uri.removeprefix("file://"), names.TEST_PREDICTIONS)
        frame = pd.read_parquet(file)
        frame.loc[0, "prediction"] += 1
        frame.to_parquet(file)
        with pytest.raises(RunError, match=f"run {run.run_id}: its artifact .* was changed"):
            verify(built.folder, made.request())
        # A run of an older version has no digests; its record tells.
        made.store.client.delete_tag(run.run_id, names.DIGESTS)
        with pytest.raises(
            RunError, match=rf"run {run.run_id} \(mse dev1 seed 0\): logged Pearson on test"
        ):
            verify(built.folder, made.request())

    @pytest.mark.usefixtures("undrawn")
    def test_a_metric_that_was_edited_is_found(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(**SMALL)
        built = build(made.request(), tmp_path / "report")
        run = collect(made.uri, made.name).runs[0]
        made.store.client.log_metric(run.run_id, "test/pearson", 0.99, step=1)
        with pytest.raises(
            RunError, match=rf"run {run.run_id} .*: MLflow shows test/pearson 0.99, its record"
        ):
            verify(built.folder, made.request())

    @pytest.mark.usefixtures("undrawn")
    @pytest.mark.parametrize("damage", ["bytes", "cut", "gone", "record", "seed"])
    def test_a_damaged_run_is_named_and_left_out(
        self, damage: str, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(**(SMALL | {"seeds": (0, 1)}))
        run = collect(made.uri, made.name).runs[0]
        folder = Path(run.artifact_uri.removeprefix("file://"))
        file = folder / (names.RECORD_FILE if damage == "record" else names.DEV_PREDICTIONS)
        content = bytearray(file.read_bytes())
        if damage == "bytes":
            content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content[:-5]) if damage in ("cut", "record") else bytes(content))
        if damage == "gone":
            file.unlink()
        if damage == "seed":
            made.store.client.set_tag(run.run_id, names.SEED, "abc")
        built = build(made.request(), tmp_path / "report")
        (told,) = [line for line in built.report.warnings if run.run_id in line]
        assert told.endswith("It enters no number here.")
        group = json.loads((built.folder / "numbers.json").read_text("utf-8"))["group"]
        assert run.run_id not in group
        assert group

    @pytest.mark.usefixtures("undrawn")
    def test_runs_that_came_later_do_not_matter(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(**SMALL)
        built = build(made.request(), tmp_path / "report")
        experiment(**SMALL, settings={"optimisation.epochs": 3})
        experiment(**(SMALL | {"seeds": (0, 1)}))
        assert verify(built.folder, made.request()) > 50

    @pytest.mark.usefixtures("undrawn")
    def test_a_deleted_run_is_missed(self, experiment: Callable[..., Made], tmp_path: Path) -> None:
        made = experiment(**SMALL)
        built = build(made.request(), tmp_path / "report")
        made.store.client.delete_run(collect(made.uri, made.name).runs[0].run_id)
        with pytest.raises(RunError, match="no longer holds 1 run of the report"):
            verify(built.folder, made.request())

    def test_what_is_no_report_is_said(self, table_3: Made, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="holds no finished report"):
            verify(tmp_path, table_3.request())


class TestOddExperiments:
    def test_only_failed_runs(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={}, **SMALL)
        tags = {names.KIND: names.RUN, names.VARIANT: "epm", names.SPLIT: "dev1", names.SEED: 0}
        start_run(
            made.store,
            made.store.client.get_experiment_by_name(made.name).experiment_id,
            "epm",
            tags,
        ).end("FAILED", "it broke")
        with pytest.raises(UsageError, match=r"has no finished run: 1 FAILED \(it broke\)"):
            build(made.request())

    def test_one_seed_says_what_it_can_not_show(self, experiment: Callable[..., Made]) -> None:
        report = composed(experiment(**SMALL).request())
        assert any(w.startswith("One seed:") and "6 are needed" in w for w in report.warnings)
        verdicts = next(t for t in report.tables if t.id == "verdicts")
        assert {row[-2].text for row in verdicts.rows} <= {
            "undecided",
            "missing",
            "not comparable",
        }

    def test_missing_test_labels(self, experiment: Callable[..., Made]) -> None:
        report = composed(experiment(labelled=False, **SMALL).request())
        assert any("no labelled test rows" in w for w in report.warnings)
        table_3 = next(t for t in report.tables if t.id == "table3")
        assert [c.text for c in table_3.rows[0][2:]] == ["no labels"] * 3
        assert (
            next(t for t in report.tables if t.id == "worst")
            .notes[0]
            .startswith("Development rows of Dev1")
        )

    def test_cells_without_runs_say_so(self, experiment: Callable[..., Made]) -> None:
        report = composed(experiment(**SMALL).request())
        rows = {row[0].text: row for row in next(t for t in report.tables if t.id == "table3").rows}
        assert rows["+ EPM + CL"][1].text == rows["Baseline"][2].text == "no runs"
        assert rows["Baseline"][2].below == "paper 65.33"
        assert rows["Ensemble"][4].below == "paper 56.70"

    def test_two_data_sets_stand_in_groups(self, experiment: Callable[..., Made]) -> None:
        experiment(**SMALL)
        made = experiment(**SMALL, data="x" * 40, settings={"optimisation.epochs": 3}, seed=5)
        report = composed(made.request())
        assert any("2 further runs with other data" in w for w in report.warnings)
        (row,) = next(t for t in report.tables if t.id == "groups").rows
        assert row[-1].text == "data dddddddddd, optimisation.epochs 11"
        assert report.watermark == ""
        other = composed(made.request(group=2))
        first, second = (
            next(t for t in r.tables if t.id == "table3").rows[0][1].value for r in (report, other)
        )
        assert first != second
        with pytest.raises(UsageError, match="the runs make 2 groups"):
            composed(made.request(group=3))

    def test_mixed_by_force_there_is_a_watermark_on_every_page(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        experiment(**SMALL)
        made = experiment(**(SMALL | {"seeds": (1,)}), settings={"optimisation.epochs": 3})
        built = build(made.request(mixed=True), tmp_path / "report")
        assert any(
            w.startswith("Mixed by force: the runs differ in optimisation.epochs")
            for w in built.report.warnings
        )
        for page in PdfReader(built.folder / "report.pdf").pages:
            assert "MIXED: optimisation.epochs" in page.extract_text()
        assert 'class="watermark"' in (built.folder / "report.html").read_text("utf-8")

    def test_synthetic_data_are_named_on_every_page_and_decide_nothing(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        built = build(experiment(synthetic=True, **SMALL).request(), tmp_path / "report")
        for page in PdfReader(built.folder / "report.pdf").pages:
            assert "synthetic data: no benchmark" in page.extract_text()
        assert not {"claims", "verdicts"} & {t.id for t in built.report.tables}
        steps = next(t for t in built.report.tables if t.id == "steps")
        assert "verdict" not in {column.title for column in steps.columns}

    def test_rows_with_fewer_seeds_are_named(self, experiment: Callable[..., Made]) -> None:
        experiment(**(SMALL | {"seeds": (0, 1)}))
        made = experiment(noise={"mse": 0.5}, splits=("dev1",), seeds=(2,), rows=10)
        report = composed(made.request())
        assert any("epm dev1: 2 of 3" in w for w in report.warnings)

    def test_a_row_that_lacks_a_seed_on_each_split_is_named_once(
        self, experiment: Callable[..., Made]
    ) -> None:
        experiment(**(SMALL | {"seeds": (0, 1), "splits": ("dev1", "dev2")}))
        made = experiment(noise={"mse": 0.5}, splits=("dev1", "dev2"), seeds=(2,), rows=10)
        report = composed(made.request())
        (warning,) = [w for w in report.warnings if "2 of 3" in w]
        assert warning.count("epm") == 1

    def test_readings_of_the_test_rows_by_runs_that_are_not_shown_are_listed(
        self, experiment: Callable[..., Made]
    ) -> None:
        experiment(**SMALL)
        made = experiment(**SMALL)  # replaces the first suite's runs
        report = composed(made.request())
        (text,) = (
            b
            for s in report.sections
            for b in s.blocks
            if isinstance(b, str) and b.startswith("The labels of the test rows")
        )
        assert "were read 4 times" in text
        others = next(t for t in report.tables if t.id == "test_reads")
        assert [row[1].text for row in others.rows] == ["mse dev1 seed 0", "epm dev1 seed 0"]

    def test_runs_that_are_still_running_are_not_called_failed(
        self, experiment: Callable[..., Made]
    ) -> None:
        made = experiment(**SMALL)
        tags = {names.KIND: names.RUN, names.VARIANT: "epm", names.SPLIT: "dev1", names.SEED: 5}
        running = start_run(made.store, collect(made.uri, made.name).experiment_id, "epm", tags)
        report = composed(made.request())
        running.end("KILLED")
        assert any("1 RUNNING" in warning for warning in report.warnings)

    def test_collapsed_runs_are_told(self, experiment: Callable[..., Made]) -> None:
        made = experiment(noise={"mse": 0.5, "mse+cl": 0.5}, collapsed=("mse+cl",), **SMALL)
        report = composed(made.request())
        assert any(
            w.startswith("Collapsed to constant predictions") and "mse+cl dev1 seed 0" in w
            for w in report.warnings
        )
        rows = {row[0].text: row for row in next(t for t in report.tables if t.id == "table3").rows}
        assert rows["MSE + CL"][1].text == "collapsed"

    def test_dev2_alone_with_named_languages(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        report = composed(experiment(splits=("dev2:it+zh",), seeds=(0, 1), rows=10).request())
        table_3 = next(t for t in report.tables if t.id == "table3")
        assert table_3.columns[1].title == "Dev2:it+zh"
        assert "Dev2:it+zh held out Italian and Chinese" in table_3.notes[-1]
