"""Published results: every number of a report in `docs/results` comes from the bundle beside it."""

import csv
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ablation.core.identity import RunKey
from ablation.data.splits import LEAVE_ONE_OUT, draw_kind
from ablation.runs.ensemble_submission import Candidate, combine
from ablation.tracking import names
from ablation.tracking.bundle import BundleSource
from reports.build import NUMBERS_FILE, ReportRequest
from reports.verify import verify

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted(file.parent for file in (ROOT / "docs" / "results").glob("*/*.ablation.zip"))
#: MINT's test file, as it was given out.
TEST_ROWS = 13_697


@pytest.fixture(params=RESULTS, ids=[folder.name for folder in RESULTS])
def published(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


def bundle_of(folder: Path) -> Path:
    (file,) = folder.glob("*.ablation.zip")
    return file


def test_there_is_one() -> None:
    assert RESULTS


def test_every_number_is_computed_again(published: Path) -> None:
    report = published / "report"
    assert (report / NUMBERS_FILE).is_file()
    assert verify(report, ReportRequest(bundle=bundle_of(published))) > 0


def test_neither_a_text_nor_a_folder_of_its_author_is_in_it(published: Path) -> None:
    assert not BundleSource(bundle_of(published)).has_texts
    with zipfile.ZipFile(bundle_of(published)) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                assert not re.search(rb'"/(home|root|tmp|work|Users)/', archive.read(name)), name


@pytest.mark.parametrize("folder", [f for f in RESULTS if f.name == "mint"], ids=lambda f: f.name)
def test_the_submission_has_a_score_for_every_test_row(folder: Path) -> None:
    with (folder / "submission.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(TEST_ROWS))
    assert all(math.isfinite(float(row["score"])) for row in rows)


def test_the_submission_is_made_of_the_bundles_runs() -> None:
    """As `ablation unbundle` and `ablation submit --from-runs` make it of two experiments."""
    folder = ROOT / "docs" / "results" / "mint"
    candidates = []
    for experiment, kind in (("mint", "dev1"), ("mint-unseen", LEAVE_ONE_OUT)):
        source = BundleSource(bundle_of(folder.parent / experiment))
        for run in source.read_runs([names.RUN]):
            key = RunKey(run.tags[names.VARIANT], run.tags[names.SPLIT], int(run.tags[names.SEED]))
            is_candidate = run.status == "FINISHED" and names.MEMBERS not in run.tags
            if is_candidate and draw_kind(key.split) == kind:
                dev, test = (
                    source.read_frame(run.run_id, path).sort_values("row")
                    for path in (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS)
                )
                candidates.append(Candidate(key, run.run_id, dev, test, experiment))
    candidates.sort(key=lambda c: (c.key.split, c.key.variant, c.key.seed))
    _, scores = combine(candidates)
    with (folder / "submission.csv").open(encoding="utf-8", newline="") as file:
        published = [float(row["score"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(published, scores, atol=1e-6)
