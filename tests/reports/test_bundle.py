"""A bundle holds an experiment without its texts; its report needs neither store nor corpus."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

import ablation
from ablation.cli.main import app
from ablation.core.errors import RunError, UsageError
from ablation.tracking import names
from ablation.tracking.bundle import BundleSource, write_bundle
from ablation.tracking.bundle_file import VERSION, pack_members, read_members
from reports.analysis.collect import collect, open_source
from reports.build import ReportOutput, ReportRequest, build, list_numbers, read_inputs
from reports.contents import compose
from reports.verify import verify
from tests.reports.conftest import Made, write_experiment

#: A word of every text of these corpora.
SECRET = "geheimnis"


@pytest.fixture(scope="module")
def made(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Write an experiment whose texts all hold one word."""
    file = tmp_path_factory.mktemp("texts") / "mlflow.db"
    file.write_bytes(empty_store.read_bytes())
    return write_experiment(
        f"sqlite:///{file}",
        noise={"mse": 0.9, "epm": 0.4, "ensemble": 0.0},
        rows=30,
        text=lambda language, i: f"{language} {SECRET} {i}",
        weighted_pairs=True,
        epochs=3,
    )


@pytest.fixture(scope="module")
def bundle(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "e.zip"
    return ablation.bundle(made.name, file, tracking_uri=made.uri).file


def numbers(request: ReportRequest) -> dict[str, list[dict[str, object]]]:
    return list_numbers(compose(read_inputs(request)))


class TestContents:
    def test_tables_are_those_of_the_store(self, made: Made, bundle: Path) -> None:
        stored, kept = open_source(made.uri, made.name), BundleSource(bundle)
        runs = stored.read_runs([names.RUN])
        assert [r.run_id for r in kept.read_runs([names.RUN])] == [r.run_id for r in runs]
        for run in runs:
            for path in json.loads(run.tags[names.MANIFEST]):
                if path.endswith(".parquet"):
                    pd.testing.assert_frame_equal(
                        kept.read_frame(run.run_id, path),
                        stored.read_frame(run.run_id, path).reset_index(drop=True),
                        check_dtype=False,
                        check_exact=True,
                    )

    def test_the_same_experiment_gives_the_same_bytes(
        self, made: Made, bundle: Path, tmp_path: Path
    ) -> None:
        again = write_bundle(open_source(made.uri, made.name), tmp_path / "again.zip")
        assert again.file.read_bytes() == bundle.read_bytes()
        assert again.digest == BundleSource(bundle).digest

    def test_no_text_is_in_it_unless_it_is_asked_for(
        self, made: Made, bundle: Path, tmp_path: Path
    ) -> None:
        assert not holds_texts(bundle)
        source = open_source(made.uri, made.name)
        assert holds_texts(write_bundle(source, tmp_path / "t.zip", texts=True).file)

    def test_a_row_is_found_by_the_digest_of_its_text(self, made: Made, bundle: Path) -> None:
        suite = collect(None, "", bundle=bundle).suites[0]
        kept = BundleSource(bundle).read_frame(suite.run_id, names.TRAIN_CORPUS)
        texts = open_source(made.uri, made.name).read_frame(suite.run_id, names.TRAIN_CORPUS)
        assert kept["label"].tolist() == texts["label"].tolist()
        assert kept["characters"].tolist() == texts["text"].str.len().tolist()
        assert kept["digest"].is_unique

    def test_reasons_of_failures_are_left_out_because_they_quote_texts(
        self, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(splits=("dev1",), seeds=(0,), rows=5)
        run = collect(made.uri, made.name).runs[0]
        made.store.client.set_tag(run.run_id, names.REASON, f"no token in {SECRET}")
        file = write_bundle(open_source(made.uri, made.name), tmp_path / "e.zip").file
        assert not holds_texts(file)

    def test_an_artifact_that_it_has_not_is_named(self, bundle: Path) -> None:
        with pytest.raises(RunError, match="run r: its artifact x can't be read: it is not in"):
            BundleSource(bundle).read_bytes("r", "x")


def holds_texts(file: Path) -> bool:
    with zipfile.ZipFile(file) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
        tables = [
            pd.read_parquet(io.BytesIO(archive.read(name))).to_csv().encode()
            for name in archive.namelist()
            if name.endswith(".parquet")
        ]
    return any(SECRET.encode() in content for content in contents + tables)


class TestReport:
    def test_its_numbers_are_those_of_the_store(self, made: Made, bundle: Path) -> None:
        from_bundle = numbers(ReportRequest(bundle=bundle))
        assert from_bundle == numbers(made.request(texts=False))
        assert len(from_bundle) > 15

    @pytest.mark.usefixtures("undrawn")
    def test_it_verifies_reports_of_the_store_with_or_without_texts(
        self, made: Made, bundle: Path, tmp_path: Path
    ) -> None:
        for texts in (True, False):
            folder = build(made.request(texts=texts), tmp_path / str(texts), log=False).folder
            assert verify(folder, ReportRequest(bundle=bundle)) > 300
            assert verify(folder, made.request()) > 300
        file = folder / "numbers.json"
        file.write_text(re.sub(r'"value": (\d)', r'"value": 1\1', file.read_text("utf-8"), count=1))
        with pytest.raises(RunError, match="the report says"):
            verify(folder, ReportRequest(bundle=bundle))

    def test_the_command_needs_neither_store_nor_corpus(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert "report.pdf" in cli("report", str(bundle), "--sections", "results")
        assert "numbers computed again" in cli("report", "--verify", str(bundle))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["report-ablation"]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process and return what it prints."""

    def run(*arguments: str) -> str:
        app(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def built(made: Made, tmp_path_factory: pytest.TempPathFactory) -> ReportOutput:
    folder = tmp_path_factory.mktemp("textless") / "report"
    return build(made.request(texts=False), folder, log=False)


class TestWithoutTexts:
    """`--no-texts` leaves every text of the corpus out of every file of a report."""

    def test_no_file_holds_one(self, built: ReportOutput) -> None:
        files = [file for file in built.folder.rglob("*") if file.is_file()]
        assert {file.suffix for file in files} >= {".html", ".json", ".csv", ".md", ".tex", ".svg"}
        for file in files:
            assert SECRET.encode() not in file.read_bytes(), file
            if file.suffix == ".pdf":
                pages = PdfReader(file).pages
                assert SECRET not in "".join(page.extract_text() for page in pages), file

    def test_the_worst_predictions_are_told_by_their_row(self, built: ReportOutput) -> None:
        rows = list(csv.DictReader((built.folder / "tables/worst.csv").open(encoding="utf-8")))
        assert all(int(row["row in the file"]) >= 1 for row in rows)

    def test_a_report_with_texts_has_them(self, made: Made) -> None:
        tables = {t.id: t for t in compose(made.inputs()).tables}
        assert SECRET in tables["worst"].rows[0][1].text
        assert "table1" in tables


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
    def test_other_files_are_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UsageError, match="is no bundle"):
            BundleSource(tmp_path / "file")

    def test_a_foreign_zip_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
            archive.writestr("a.txt", "mine")
        with pytest.raises(UsageError, match="is no bundle"):
            BundleSource(tmp_path / "z.zip")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no such file"):
            collect(None, "", bundle=tmp_path / "none.zip")

    def test_a_later_format_asks_for_an_update(self, bundle: Path, tmp_path: Path) -> None:
        index, members = read_members(bundle)
        members.pop("bundle.json")
        content, _ = pack_members({**index, "version": VERSION + 1}, members)
        (tmp_path / "later.zip").write_bytes(content)
        with pytest.raises(UsageError, match="is a bundle of format 2"):
            BundleSource(tmp_path / "later.zip")

    @pytest.mark.parametrize("damage", ["bytes", "record", "seed"])
    def test_a_damaged_run_is_named_and_the_others_are_packed(
        self, damage: str, experiment: Callable[..., Made], tmp_path: Path
    ) -> None:
        made = experiment(noise={"mse": 0.9, "epm": 0.4}, rows=20, seeds=(0,))
        first, *others = open_source(made.uri, made.name).read_runs([names.RUN])
        folder = Path(first.artifact_uri.removeprefix("file://"))
        file = folder / (names.RECORD_FILE if damage == "record" else names.DEV_PREDICTIONS)
        if damage == "seed":
            made.store.client.set_tag(first.run_id, names.SEED, "abc")
        else:
            file.write_bytes(file.read_bytes()[:-5])
        written = ablation.bundle(made.name, tmp_path / "e.zip", tracking_uri=made.uri)
        (line,) = written.left_out
        assert line.startswith(f"run {first.run_id}: ")
        packed = BundleSource(written.file).read_runs([names.RUN])
        assert [row.run_id for row in packed] == [row.run_id for row in others]

    def test_an_exchanged_member_is_found(self, bundle: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy.zip"
        with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(copy, "w") as new:
            for name in old.namelist():
                new.writestr(name, b"[]" if name == "runs.json" else old.read(name))
        with pytest.raises(UsageError, match=r"damaged: its member runs.json is not what was"):
            BundleSource(copy)

    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_no_flipped_byte_or_cut_passes_unseen(
        self, data: st.DataObject, bundle: Path, tmp_path: Path
    ) -> None:
        """It is read as it was written, or refused in one line."""
        content = bytearray(bundle.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] ^= data.draw(st.integers(1, 255))
        else:
            del content[at:]
        (tmp_path / "damaged.zip").write_bytes(content)
        problems: list[str] = []
        try:
            digest = BundleSource(tmp_path / "damaged.zip").digest
        except UsageError as error:
            problems = error.problems
        assert len(problems) == 1 or digest == BundleSource(bundle).digest
