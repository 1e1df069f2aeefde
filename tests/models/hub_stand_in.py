"""A local stand-in for the Hugging Face Hub: the endpoints that a push calls, and no others.

It speaks git LFS for large files. The Hub's newer transfer (Xet) is not imitated, so clients have
to run with HF_HUB_DISABLE_XET=1.
"""

import base64
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.local_servers import serve, stop


class HubStandIn:
    """A Hub with one user, whose token may write to the repositories of `owner`.

    `repos` has each repository's visibility, `files` its files by path; `paths` are the requests.
    """

    def __init__(self, token: str, owner: str) -> None:
        self.repos: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.messages: list[str] = []
        self.paths: list[str] = []
        self._large: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                hub.paths.append(f"{self.command} {path}")
                if path.startswith("/lfs/"):  # a signed address: the token is not sent there
                    hub._large[path.removeprefix("/lfs/")] = content
                    self.reply(200, {})
                elif self.headers.get("Authorization") != f"Bearer {token}":
                    self.reply(401, {"error": "Invalid username or password."})
                else:
                    self.reply(*hub._answer(path, content, owner))

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def reply(self, status: int, body: dict[str, Any]) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                if "error" in body:
                    self.send_header("X-Error-Message", body["error"])
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server, self.uri = serve(Handler)

    def close(self) -> None:
        stop(self._server)

    def _answer(self, path: str, content: bytes, owner: str) -> tuple[int, dict[str, Any]]:
        if path == "/api/validate-yaml":
            has_metadata = json.loads(content)["content"].startswith("---\n")
            return (200, {}) if has_metadata else (400, {"errors": [{"message": "no metadata"}]})
        if path == "/api/repos/create":
            asked = json.loads(content)
            space = asked.get("organization") or owner
            if space != owner:
                return 403, {"error": "You don't have the rights to create a model there."}
            repo = f"{space}/{asked['name']}"
            if repo in self.repos:
                return 409, {"error": "You already created this model repo", "url": repo}
            private = asked.get("private") or asked.get("visibility") == "private"
            self.repos[repo], self.files[repo] = bool(private), {}
            return 200, {"url": f"{self.uri}/{repo}"}
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": f"{self.uri}/lfs/{one['oid']}"}},
                }
                for one in json.loads(content)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if "/preupload/" in path:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            return 200, {"files": files}
        if "/commit/" in path:
            return self._commit(path.removeprefix("/api/models/").partition("/commit/")[0], content)
        return 404, {"error": f"the stand-in has no {path}"}

    def _commit(self, repo: str, content: bytes) -> tuple[int, dict[str, Any]]:
        for line in content.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.messages.append(value["summary"])
            elif item["key"] == "file":
                self.files[repo][value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                self.files[repo][value["path"]] = self._large[value["oid"]]
        commit = f"{self.uri}/{repo}/commit/{'1' * 40}"
        return 200, {"commitUrl": commit, "commitOid": "1" * 40, "success": True}
