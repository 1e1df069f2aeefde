"""Files of SQLite stores by their addresses, whatever their folders are called."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from ablation.tracking.uris import absolute_uri, is_http, is_remote, sqlite_file, sqlite_uri

FOLDERS = ["plain", "a b", "a%20b", "50%", "q?mark", "a#b", "a&b=c", "日本", "a+b"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_is_found_by_its_address_by_us_and_by_sqlalchemy(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / folder).mkdir()
    file = tmp_path / folder / "mlflow.db"
    monkeypatch.chdir(tmp_path / folder)
    uri = absolute_uri("sqlite:///mlflow.db")
    assert uri == sqlite_uri(file)
    assert sqlite_file(uri) == file
    assert absolute_uri(uri) == uri
    engine = create_engine(uri)
    with engine.connect() as connection:
        connection.execute(text("create table t (x)"))
    engine.dispose()
    assert file.stat().st_size
    assert [entry.name for entry in tmp_path.iterdir()] == [folder]


def test_a_database_server_is_waited_for_as_an_http_server_is() -> None:
    for uri in ("http://host", "https://host", "postgresql://host/db", "mysql+pymysql://host/db"):
        assert is_remote(uri)
    for uri in ("sqlite:////a.db", "/folder", "file:///folder", "databricks"):
        assert not is_remote(uri)
    assert not is_http("postgresql://host/db")
