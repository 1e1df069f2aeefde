"""A PostgreSQL server of a test's own, from Debian's packages."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def find_binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb")
    return folders[-1] if folders else Path(found).parent if found else None


class Postgres:
    """A server on a free port of 127.0.0.1, up when the constructor returns.

    PostgreSQL refuses to run as root, so root starts it as the user postgres.
    """

    def __init__(self) -> None:
        """Make a cluster in a folder of its own and start it."""
        binaries = find_binaries()
        assert binaries is not None
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user: str | None = None
        if os.getuid() == 0:
            self._user = "postgres"
            account = pwd.getpwnam(self._user)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._run(
            "initdb", "-D", "data", "-U", "ablation", "--auth=trust", "--no-sync", "-E", "UTF8"
        )
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-o", options, "-w", "start")

    def create_database(self, name: str) -> str:
        """Create a database and return its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "ablation", name)
        return f"postgresql+psycopg://ablation@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop the server and remove its files."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [str(self._binaries / program), *options],
            cwd=self.folder,
            user=self._user,
            check=True,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        )
