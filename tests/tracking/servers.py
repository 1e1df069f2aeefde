"""A real MLflow server, and a proxy in front of it that makes faults."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, Final

#: Seconds that a test waits for a server, at most.
PATIENCE_S: Final = 120
#: What a proxy does with a request: answer with a status, "close" the connection without an
#: answer, "lose" the answer of a request that was forwarded, forward it late ("slow"), "hold" it
#: until the fault changes, or forward it (None).
Fault = int | str | None


class Server:
    """An MLflow server on a free port of 127.0.0.1, which is up when the constructor returns."""

    def __init__(self, command: Sequence[str], port: int = 0) -> None:
        """Start `python -m COMMAND` on `port`, or on one that the system chooses."""
        self.folder = Path()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started: Future[int] = Future()
        threading.Thread(
            target=_follow, args=(self._process.stdout, started), name="server", daemon=True
        ).start()
        try:
            self.port = started.result(PATIENCE_S)
        except BaseException:
            self.kill()
            raise
        self.uri = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that started the server's workers."""
        return self._process.pid

    def kill(self) -> None:
        """End the server and its workers at once, as a power cut would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)


def serve(folder: Path, port: int = 0, database: str = "", artifacts: str = "") -> Server:
    """Serve the store `mlflow.db` and the artifacts in `folder`, or a database and a bucket."""
    store = ["--backend-store-uri", database or f"sqlite:///{folder}/mlflow.db"]
    store += ["--artifacts-destination", artifacts or str(folder / "artifacts")]
    server = Server(["mlflow", "server", *store, "--workers", "1"], port)
    server.folder = folder
    return server


def _follow(output: IO[str], started: "Future[int]") -> None:
    """Report the server's port once it listens, and read on: a full pipe would stop the server."""
    lines = []
    for line in output:
        lines.append(line)
        if not started.done() and (match := re.search(r"running on http://.*:(\d+)", line)):
            started.set_result(int(match[1]))
    if not started.done():
        started.set_exception(AssertionError(f"the MLflow server ended: {''.join(lines[-5:])}"))


class Proxy:
    """A proxy for the server on the port `target`.

    `fault` decides for each request (method and path) what becomes of it. It can be changed at any
    time; `requests` counts requests by path, `credentials` holds their Authorization headers.
    """

    def __init__(self, target: int) -> None:
        self.requests: Counter[str] = Counter()
        self.credentials: set[str] = set()
        self._fault: Callable[[str, str], Fault] = lambda method, path: None
        self._changed = threading.Condition()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.requests[self.path.partition("?")[0]] += 1
                proxy.credentials.add(self.headers.get("Authorization", ""))
                fault = proxy.decide(self.command, self.path)
                if isinstance(fault, int):
                    self.reply(fault, b"no")
                    return
                if fault == "close":
                    self.close_connection = True
                    return
                if fault == "slow":
                    threading.Event().wait(0.3)
                status, body, kind = self.forward(content)
                if fault == "lose":
                    self.close_connection = True
                else:
                    self.reply(status, body, kind)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

            def forward(self, content: bytes) -> tuple[int, bytes, str]:
                server = HTTPConnection("127.0.0.1", target, timeout=PATIENCE_S)
                kind = self.headers.get("Content-Type", "text/plain")
                server.request(self.command, self.path, content, {"Content-Type": kind})
                response = server.getresponse()
                body = response.read()
                server.close()
                return response.status, body, response.headers.get("Content-Type", "text/plain")

            def reply(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.uri = f"http://{self.address}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def set_fault(self, fault: Callable[[str, str], Fault]) -> None:
        """Ask `fault` about every request from now on, and about those that are held."""
        with self._changed:
            self._fault = fault
            self._changed.notify_all()

    def decide(self, method: str, path: str) -> Fault:
        """Return the fault of a request, once it is not to be held."""
        with self._changed:
            while (fault := self._fault(method, path)) == "hold":
                self._changed.wait()
            return fault

    def fail(self, fault: Fault, part: str = "") -> None:
        """Fail every request whose path contains `part`."""
        self.set_fault(lambda method, path: fault if part in path else None)

    def fail_times(self, count: int, fault: Fault, part: str = "") -> None:
        """Fail the next `count` requests whose path contains `part`."""
        remaining = [count]

        def next_ones(method: str, path: str) -> Fault:
            if part not in path or not remaining[0]:
                return None
            remaining[0] -= 1
            return fault

        self.set_fault(next_ones)

    def fail_after(self, count: int, fault: Fault, part: str) -> None:
        """Fail every request after `count` whose path contains `part`."""
        remaining = [count]

        def later_ones(method: str, path: str) -> Fault:
            remaining[0] -= part in path and remaining[0] > 0
            return fault if remaining[0] <= 0 else None

        self.set_fault(later_ones)

    def close(self) -> None:
        """Let held requests go, and stop."""
        self.fail(None)
        self._server.shutdown()
        self._server.server_close()
