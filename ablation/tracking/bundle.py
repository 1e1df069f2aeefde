"""Keep an experiment in one small file, from which its report can be rebuilt without a store.

A bundle is a zip of the runs' tags, settings and records (JSON) and of their tables (Parquet):

bundle.json                     format, experiment, digests of all other members
runs.json                       runs and suites as the store has them, newest tags, no metrics
artifacts.json                  JSON and text artifacts by run, and the members of the other ones
predictions/{dev,test}/N.parquet   row, language, label (weight) once, then one column a run
curves.parquet, language_distances.parquet   one table each, with the run in its first column
corpus/DIGEST.parquet           rows of the corpus: label, language, length and digest of the text

Texts are left out unless they are asked for. Predictions are kept as float32 where that loses
nothing, so that every number of the report can be verified. Equal contents give equal bytes.
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ablation.core.errors import RunError, UsageError, first_line
from ablation.core.files import write_atomically
from ablation.tracking import names
from ablation.tracking.bundle_file import (
    content_digest,
    damaged,
    pack_members,
    read_members,
    to_json,
)
from ablation.tracking.damage import DamagedRunError, tag_problem
from ablation.tracking.rows import RunRow
from ablation.tracking.sources import RunSource, listed_artifacts, to_frame, unreadable

SUFFIX: Final = ".ablation.zip"
KINDS: Final = (names.RUN, names.CURVE, names.SUITE, names.CURVE_STUDY)
#: Characters of the digest of a text: enough to find a row in a corpus that one has.
ROW_DIGEST: Final = 16
#: Of a textless corpus: the length of each text in characters.
LENGTH, DIGEST, TEXT, SECOND_TEXT = "characters", "digest", "text", "second_text"
LEFT_OUT: Final = "left out of the bundle, since a reason may quote a text"

_RUNS, _ARTIFACTS = "runs.json", "artifacts.json"
#: What predictions of several runs share. Weights are there for corpora that have them.
_SHARED_COLUMNS: Final = ("row", "language", "label", "weight")
_WIDE: Final = (names.DEV_PREDICTIONS, names.TEST_PREDICTIONS)
_LONG: Final = (names.CURVES, names.DISTANCES, names.EPOCH_PREDICTIONS)
_SUITE_JSON: Final = (
    names.ENVIRONMENT_FILE,
    names.OUTCOMES_FILE,
    names.TUNING_FILE,
    names.CORPUS_LAYOUT,
)
_CORPORA: Final = (names.TRAIN_CORPUS, names.TEST_CORPUS)
#: Tags of other tools name users and folders.
_KEPT_TAGS: Final = "ablation."
_RUN: Final = "run"


@dataclass(frozen=True)
class BundleSummary:
    """A written bundle.

    Attributes:
        file: The file.
        runs: The number of its runs.
        size: Its bytes.
        digest: The digest of its contents.
        left_out: A line for each damaged run that is not in it.
    """

    file: Path
    runs: int
    size: int
    digest: str
    left_out: tuple[str, ...] = ()


def write_bundle(source: RunSource, file: Path, *, texts: bool = False) -> BundleSummary:
    """Write an experiment's runs, predictions, curves and records to one file.

    Args:
        source: The experiment.
        file: The file to create or replace.
        texts: Whether the corpus's texts are kept.

    Raises:
        UsageError: There is no run, or the file can't be written.
    """
    trained = (names.RUN, names.CURVE)
    rows = source.read_runs(KINDS)
    problems = {r.run_id: tag_problem(r.tags) for r in rows if r.tags[names.KIND] in trained}
    left_out = [f"run {run}: {problem}" for run, problem in problems.items() if problem]
    rows = [row for row in rows if not problems.get(row.run_id)]
    while True:
        try:
            members = _Packer(source, texts).pack(rows)
            break
        except DamagedRunError as damaged:
            whole = [row for row in rows if row.run_id != damaged.run_id]
            if len(whole) == len(rows):
                raise
            left_out.append(str(damaged))
            rows = whole
    header = {
        "experiment": source.experiment,
        "experiment_id": source.experiment_id,
        "texts": texts,
    }
    content, digest = pack_members(header, members)
    try:
        write_atomically(file, content)
    except OSError as error:
        raise UsageError(f"--out {file}: {error.strerror}") from error
    runs = sum(row.tags[names.KIND] in trained for row in rows)
    return BundleSummary(file, runs, len(content), digest, tuple(left_out))


class _Packer:
    """Collects the members of one bundle."""

    def __init__(self, source: RunSource, texts: bool) -> None:
        self.source, self.texts = source, texts
        self.members: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, str]] = {}

    def pack(self, rows: Sequence[RunRow]) -> dict[str, bytes]:
        for row in rows:
            listed = listed_artifacts(row) if row.status == "FINISHED" else {}
            if names.RECORD_FILE in listed:
                self._json_artifact(row.run_id, names.RECORD_FILE)
            if row.tags[names.KIND] in (names.SUITE, names.CURVE_STUDY):
                self._suite(row.run_id)
        finished = [row for row in rows if row.status == "FINISHED"]
        for path in _WIDE:
            self._wide(path, self._frames(finished, path))
        for path in _LONG:
            self._long(path, self._frames(finished, path))
        self.members[_RUNS] = to_json([self._row(row) for row in rows])
        self.members[_ARTIFACTS] = to_json({"json": self.artifacts, "tables": self.tables})
        return dict(sorted(self.members.items()))

    def _row(self, row: RunRow) -> dict[str, Any]:
        tags = {k: v for k, v in row.tags.items() if k.startswith(_KEPT_TAGS) or k == names.PARENT}
        if names.REASON in tags and not self.texts:
            tags[names.REASON] = LEFT_OUT
        params = {name: _without_folders(value) for name, value in row.params.items()}
        return {**asdict(row), "artifact_uri": "", "tags": tags, "params": params, "metrics": {}}

    def _frames(self, rows: Sequence[RunRow], path: str) -> Iterator[tuple[str, pd.DataFrame]]:
        for row in rows:
            if path in listed_artifacts(row):
                yield row.run_id, self.source.read_frame(row.run_id, path)

    def _json_artifact(self, run: str, path: str) -> None:
        self.artifacts.setdefault(run, {})[path] = json.loads(self.source.read_bytes(run, path))

    def _suite(self, run: str) -> None:
        """Keep what a suite has; one that was killed has less."""
        for path in _SUITE_JSON:
            try:
                self._json_artifact(run, path)
            except RunError:
                continue
        try:
            table = self.source.read_bytes(run, names.VARIANTS_FILE).decode("utf-8")
            self.artifacts.setdefault(run, {})[names.VARIANTS_FILE] = table
        except RunError:
            pass  # the paper's table
        if not self.texts:
            for outcome in self.artifacts.get(run, {}).get(names.OUTCOMES_FILE, []):
                outcome["reason"] = LEFT_OUT if outcome.get("reason") else ""
        for path in _CORPORA:
            try:
                frame = self.source.read_frame(run, path)
            except RunError:
                continue
            content = _parquet(frame if self.texts else without_texts(frame))
            member = f"corpus/{hashlib.sha256(content).hexdigest()[:16]}.parquet"
            self.members[member] = content
            self.tables.setdefault(run, {})[path] = member

    def _wide(self, path: str, frames: Iterator[tuple[str, pd.DataFrame]]) -> None:
        """Keep predictions on the same rows as the columns of one table."""
        shared: dict[bytes, tuple[pd.DataFrame, dict[str, np.ndarray]]] = {}
        for run, frame in frames:
            same = frame[[name for name in _SHARED_COLUMNS if name in frame]]
            key = hashlib.sha256("\0".join(frame["language"]).encode())
            for name in same.columns.drop("language"):
                key.update(same[name].to_numpy(np.float64).tobytes())
            _, columns = shared.setdefault(key.digest(), (same, {}))
            columns[run] = frame["prediction"].to_numpy(np.float64)
        for i, (rows, columns) in enumerate(shared.values()):
            member = f"{path.removesuffix('.parquet')}/{i}.parquet"
            values = pd.DataFrame({run: _smaller(value) for run, value in columns.items()})
            self.members[member] = _parquet(
                pd.concat([rows.reset_index(drop=True), values], axis=1)
            )
            for run in columns:
                self.tables.setdefault(run, {})[path] = member

    def _long(self, path: str, frames: Iterator[tuple[str, pd.DataFrame]]) -> None:
        """Keep other tables below each other."""
        tables = [frame.assign(**{_RUN: run}) for run, frame in frames]
        if not tables:
            return
        # Frames may have different columns: those of a batch's size.
        whole = pd.concat(tables, ignore_index=True)
        for name in whole.select_dtypes("float64"):
            whole[name] = _smaller(whole[name].to_numpy())
        self.members[path] = _parquet(whole)
        for run in whole[_RUN].unique():
            self.tables.setdefault(str(run), {})[path] = path


class BundleSource:
    """An experiment in a bundle."""

    store: None = None

    def __init__(self, file: Path) -> None:
        """Read and check a bundle.

        Raises:
            UsageError: It is no bundle, of a later format, or damaged.
        """
        self._file = file
        index, self._members = read_members(file)
        self.experiment = str(index["experiment"])
        self.experiment_id = str(index["experiment_id"])
        self.has_texts = bool(index["texts"])
        self.digest = content_digest(index)
        try:
            known = {field.name for field in fields(RunRow)}
            self._rows = [
                RunRow(**{k: v for k, v in row.items() if k in known})
                for row in json.loads(self._members[_RUNS])
            ]
            artifacts = json.loads(self._members[_ARTIFACTS])
            self._json: Mapping[str, Mapping[str, Any]] = artifacts["json"]
            self._tables: Mapping[str, Mapping[str, str]] = artifacts["tables"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(file, first_line(error)) from error

    @property
    def location(self) -> str:
        return f"bundle {self._file.name} (contents {self.digest[:16]})"

    def artifacts_of(self, run: str) -> list[str]:
        """Return the paths of a run's artifacts that are kept, in order."""
        return sorted({*self._json.get(run, {}), *self._tables.get(run, {})})

    def read_runs(self, kinds: Collection[str]) -> list[RunRow]:
        rows = [row for row in self._rows if row.tags[names.KIND] in kinds]
        return sorted(rows, key=lambda row: (row.start_time, row.run_id))

    def reads_at_once(self, runs: Sequence[str]) -> bool:
        return True

    def read_bytes(self, run: str, path: str) -> bytes:
        try:
            content = self._json[run][path]
            return content.encode() if isinstance(content, str) else to_json(content)
        except KeyError as error:
            raise unreadable(run, path, _missing(self._file)) from error

    def read_frame(self, run: str, path: str) -> pd.DataFrame:
        try:
            member = self._tables[run][path]
            if path in _CORPORA:
                return to_frame(self._members[member])
            if path in _WIDE:
                shared, predictions = self._wide_tables[member]
                return shared.assign(prediction=predictions[run].astype(np.float64))
            return self._long_tables[member][run]
        except (KeyError, pa.ArrowException) as error:
            raise unreadable(run, path, _missing(self._file)) from error

    def read_columns(self, run: str, path: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
        frame = self.read_frame(run, path)
        return {name: frame[name].to_numpy() for name in columns}

    @cached_property
    def _wide_tables(self) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
        """Tables of predictions by member: the columns that runs share, and a column for each."""
        folders = tuple(f"{path.removesuffix('.parquet')}/" for path in _WIDE)
        tables = {n: to_frame(m) for n, m in self._members.items() if n.startswith(folders)}
        split = {}
        for name, table in tables.items():
            shared = [column for column in _SHARED_COLUMNS if column in table]
            split[name] = table[shared], table.drop(columns=shared)
        return split

    @cached_property
    def _long_tables(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Other tables by member and run."""
        return {path: _by_run(self._members[path]) for path in _LONG if path in self._members}


def without_texts(corpus: pd.DataFrame) -> pd.DataFrame:
    """Replace a corpus's texts by their lengths (characters) and digests.

    A digest finds a row in a corpus that one has; it tells nothing of a text that one has not.
    """
    if TEXT not in corpus:
        return corpus
    texts = corpus[TEXT].astype(str)
    digests = [hashlib.sha256(text.encode()).hexdigest()[:ROW_DIGEST] for text in texts]
    kept = corpus.drop(columns=[TEXT, SECOND_TEXT], errors="ignore")
    kept[LENGTH], kept[DIGEST] = texts.str.len().to_numpy(), digests
    return kept


def _without_folders(param: str) -> str:
    """Replace each path in a list with commas by its last part: folders name users and machines."""
    parts = [
        PurePath(part).name if PurePath(part).is_absolute() else part for part in param.split(",")
    ]
    return ",".join(parts)


def _by_run(content: bytes) -> dict[str, pd.DataFrame]:
    whole = to_frame(content)
    short = whole.select_dtypes("float32").columns
    whole[short] = whole[short].astype(np.float64)
    return {
        str(run): frame.drop(columns=_RUN).dropna(axis=1, how="all").reset_index(drop=True)
        for run, frame in whole.groupby(_RUN, sort=False, observed=True)
    }


def _smaller(values: np.ndarray) -> np.ndarray:
    """Return float64 values as float32 if that loses nothing."""
    with np.errstate(over="ignore"):
        short = values.astype(np.float32)
    return short if np.array_equal(short.astype(np.float64), values, equal_nan=True) else values


def _parquet(frame: pd.DataFrame) -> bytes:
    """Return a table as Parquet: numbers by bytes of equal weight, which compress better."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    measured = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    # Labels have few values; a dictionary of them is the smallest.
    split = [name for name in measured if name not in ("label", "value")]
    stream = io.BytesIO()
    pq.write_table(
        table,
        stream,
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name in table.column_names if name not in split],
        use_byte_stream_split=split,
        write_statistics=False,
    )
    return stream.getvalue()


def _missing(file: Path) -> FileNotFoundError:
    return FileNotFoundError(f"it is not in {file.name}")
