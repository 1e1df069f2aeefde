"""A local SQLite store's runs, read from its tables in a few queries.

MLflow's client takes a second to import, and milliseconds for each run, as it makes an object of every tag, param
and metric. It still writes everything, and reads whatever is not a SQLite file with the tables that are known here.
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SQLITE: Final = "sqlite:///"
#: MLflow's name for the tables that are read here: the alembic revision of 3.17.
SCHEMA: Final = "dc11669786a5"


@dataclass(frozen=True)
class RunRow:
    """A run as a store has it. `start_time` is in milliseconds since 1970."""

    run_id: str
    status: str
    start_time: int
    artifact_uri: str
    tags: Mapping[str, str]
    params: Mapping[str, str]


def file_of(uri: str) -> Path | None:
    """The file of a SQLite store, None for stores of other kinds."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def connected(file: Path) -> sqlite3.Connection:
    """A connection to a database that exists, for reading. Raises sqlite3.DatabaseError where there is none.

    Not a read-only one: what a killed process was in the middle of writing has to be rolled back before
    anything can be read. SQLite itself falls back to reading where nobody may write.
    """
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=60)


@contextmanager
def opened(uri: str) -> Iterator[sqlite3.Connection | None]:
    """The store's tables for reading, all as they are at one moment; None where there are none that are known here."""
    file = file_of(uri)
    if file is None or not file.is_file():
        yield None
        return
    with closing(connected(file)) as connection:
        try:
            connection.execute("begin")
            known = connection.execute("select version_num from alembic_version").fetchall() == [
                (SCHEMA,)
            ]
        except sqlite3.DatabaseError:
            known = False
        yield connection if known else None


def experiment_named(connection: sqlite3.Connection, name: str) -> str | None:
    """The id of the experiment called `name`, deleted or not; None where there is none."""
    found = connection.execute(
        "select experiment_id from experiments where name = ? and workspace = 'default'", (name,)
    ).fetchone()
    return None if found is None else str(found[0])


def name_of(connection: sqlite3.Connection, experiment: str) -> str | None:
    """What the experiment of this id is called; None where there is none."""
    found = connection.execute(
        "select name from experiments where experiment_id = ?", (experiment,)
    ).fetchone()
    return None if found is None else str(found[0])


def runs_of(
    connection: sqlite3.Connection, experiment: str, kinds: tuple[str, Collection[str]]
) -> list[RunRow]:
    """The experiment's runs whose tag `kinds[0]` is one of `kinds[1]`, oldest first; deleted ones are left out."""
    tag, values = kinds
    marks = ", ".join("?" * len(values))
    # The inner query is the same for all three, and SQLite finds its runs by the tags' key.
    wanted = (
        "select run_uuid from runs join tags using (run_uuid)"
        f" where experiment_id = ? and lifecycle_stage = 'active' and key = ? and value in ({marks})"
    )
    asked = (int(experiment), tag, *values)
    of: dict[str, dict[str, dict[str, str]]] = {}
    for table in ("tags", "params"):
        of[table] = {}
        for run_id, key, value in connection.execute(
            f"select run_uuid, key, value from {table} where run_uuid in ({wanted})", asked
        ):
            of[table].setdefault(run_id, {})[key] = value
    rows = connection.execute(
        f"select run_uuid, status, start_time, artifact_uri from runs where run_uuid in ({wanted}) order by start_time, run_uuid",
        asked,
    )
    return [
        RunRow(i, status, start, uri, of["tags"][i], of["params"].get(i, {}))
        for i, status, start, uri in rows
    ]


def artifact_uri(connection: sqlite3.Connection, run_id: str) -> str | None:
    """Where a run's artifacts are; None for a run that is not there."""
    found = connection.execute(
        "select artifact_uri from runs where run_uuid = ?", (run_id,)
    ).fetchone()
    return None if found is None else str(found[0])
