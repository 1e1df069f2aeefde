"""Read one experiment's runs and artifacts, wherever they are: the protocol, and tracking stores.

The other source is a bundle, see `ablation.tracking.bundle`.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ablation.core.errors import first_line
from ablation.tracking import names
from ablation.tracking.damage import DamagedRunError, check_artifact
from ablation.tracking.reading import local_artifacts, read_runs
from ablation.tracking.rows import RunRow
from ablation.tracking.store import Store
from ablation.tracking.uris import redact_uri

T = TypeVar("T")


class RunSource(Protocol):
    """One experiment's runs and artifacts."""

    @property
    def experiment_id(self) -> str:
        """Return the experiment's id."""

    @property
    def experiment(self) -> str:
        """Return the experiment's name."""

    @property
    def location(self) -> str:
        """Return where the runs are read from, in words, without credentials."""

    @property
    def store(self) -> Store | None:
        """Return the store that reports may be logged to; None if there is none."""

    def read_runs(self, kinds: Collection[str]) -> list[RunRow]:
        """Return the runs of these kinds (`names.KIND`), oldest first."""

    def reads_at_once(self, runs: Sequence[str]) -> bool:
        """Return whether the runs' artifacts are read without waiting for a server."""

    def read_bytes(self, run: str, path: str) -> bytes:
        """Return an artifact; raise DamagedRunError if it can't be read, or was changed."""

    def read_frame(self, run: str, path: str) -> pd.DataFrame:
        """Return a Parquet artifact as a table; raises as `read_bytes` does."""

    def read_columns(self, run: str, path: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """Return columns of a Parquet artifact by name, which takes half as long as a table."""


@dataclass(frozen=True)
class StoreSource:
    """An experiment of a tracking store."""

    store: Store
    experiment_id: str
    experiment: str

    @property
    def location(self) -> str:
        return f"tracking store {redact_uri(self.store.uri)}"

    def read_runs(self, kinds: Collection[str]) -> list[RunRow]:
        return read_runs(self.store, self.experiment_id, kinds)

    def reads_at_once(self, runs: Sequence[str]) -> bool:
        return all(self._folder(run) is not None for run in runs)

    def read_bytes(self, run: str, path: str) -> bytes:
        content = self._stored_bytes(run, path)
        return check_artifact(run, path, content, self.store.digests.get(run, {}))

    def _stored_bytes(self, run: str, path: str) -> bytes:
        folder = self._folder(run)
        if folder is not None:
            try:
                return (folder / path).read_bytes()
            except OSError as error:
                raise unreadable(run, path, error) from error
        # Takes a second to import, and a local store does not need it.
        from mlflow.exceptions import MlflowException

        scratch = tempfile.mkdtemp()
        try:
            return Path(self.store.client.download_artifacts(run, path, scratch)).read_bytes()
        except (MlflowException, OSError) as error:
            raise unreadable(run, path, error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def read_frame(self, run: str, path: str) -> pd.DataFrame:
        return self._parse(run, path, to_frame)

    def read_columns(self, run: str, path: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
        return self._parse(run, path, lambda content: to_columns(content, columns))

    def _parse(self, run: str, path: str, parse: Callable[[bytes], T]) -> T:
        content = self.read_bytes(run, path)
        try:
            return parse(content)
        except (pa.ArrowException, OSError, KeyError) as error:
            problem = f"its artifact {path} is no Parquet file; train the run again"
            raise DamagedRunError(run, problem) from error

    def _folder(self, run: str) -> Path | None:
        uri = self.store.artifact_uris.get(run)
        return None if uri is None else local_artifacts(uri)


def to_frame(content: bytes) -> pd.DataFrame:
    """Read a small Parquet file's bytes."""
    # pandas looks for several files and an index as well, which takes a small one twice the time.
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, use_threads=False)
    return frame


def to_columns(content: bytes, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Read columns (rows,) of a small Parquet file's bytes by name."""
    file = pq.ParquetFile(pa.BufferReader(content))
    table = file.read(columns=list(columns), use_threads=False)
    return {name: table.column(name).to_numpy() for name in columns}


def listed_artifacts(row: RunRow) -> dict[str, int]:
    """Return the artifacts of a complete run with their sizes in bytes; none of another's."""
    return {str(k): int(v) for k, v in json.loads(row.tags.get(names.MANIFEST) or "{}").items()}


def unreadable(run: str, path: str, error: Exception) -> DamagedRunError:
    """Return the error that names a lost artifact and its run."""
    return DamagedRunError(run, f"its artifact {path} can't be read: {first_line(error)}")
