"""A local stand-in for the Hugging Face Hub's data sets: what a download asks for, and no more."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_servers import serve, stop

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


class DataSetHub:
    """A Hub with data sets of one commit each.

    `files` has each data set's files by path; `sizes` says other sizes than the files have.
    `private` data sets are hidden from requests without `token`. `paths` are the requests.
    """

    def __init__(self, token: str = "") -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.sizes: dict[str, int] = {}
        self.private: set[str] = set()
        self.paths: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                path = self.path.partition("?")[0]
                hub.paths.append(f"{self.command} {path}")
                kind, _, rest = path.strip("/").partition("datasets/")
                repo = "/".join(rest.split("/")[:2])
                allowed = (
                    repo not in hub.private
                    or self.headers.get("Authorization") == f"Bearer {token}"
                )
                if repo not in hub.files or not allowed:
                    self.reply(401, b"{}", {"X-Error-Message": "Repository not found"})
                elif kind == "api/":
                    body = json.dumps(hub._describe(repo, is_tree="/tree/" in rest)).encode()
                    self.reply(200, body, {"Content-Type": "application/json"})
                else:
                    content = hub.files[repo][rest.partition(f"/resolve/{COMMIT}/")[2]]
                    etag = f'"{hashlib.sha1(content).hexdigest()}"'
                    self.reply(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT})

            do_GET = do_HEAD = answer  # noqa: N815

            def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server, self.uri = serve(Handler)

    def close(self) -> None:
        stop(self._server)

    def _describe(self, repo: str, *, is_tree: bool) -> Any:
        files = [
            {
                "type": "file",
                "rfilename": path,
                "path": path,
                "size": self.sizes.get(path, len(content)),
                "oid": hashlib.sha1(content).hexdigest(),
                "blobId": hashlib.sha1(content).hexdigest(),
            }
            for path, content in self.files[repo].items()
        ]
        return files if is_tree else {"id": repo, "sha": COMMIT, "siblings": files, "tags": []}
