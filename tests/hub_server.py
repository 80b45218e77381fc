"""A server that speaks what a push needs of the Hugging Face hub's interface. It keeps repositories in memory."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_token-of-the-tests"


class HubServer(ThreadingHTTPServer):
    """`repos`: name -> {"private": ..., "files": {path: bytes}, "commits": [...]}. `refuses`: a status for all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, Any]] = {}
        self.refuses: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _reply(self, status: int, value: Any = None) -> None:
        body = json.dumps(value if value is not None else {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _is_refused(self) -> bool:
        if self.server.refuses is None and self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return False
        self._reply(self.server.refuses or 401, {"error": "Invalid username or password."})
        return True

    def do_GET(self) -> None:
        if self._is_refused():
            return
        name = self.path.removeprefix("/api/models/").partition("?")[0].removesuffix("/revision/main")
        found = self.server.repos.get(name)
        if found is None:
            self._reply(404, {"error": "Repository not found"})
            return
        siblings = [{"rfilename": path} for path in found["files"]]
        self._reply(200, {"id": name, "private": found["private"], "siblings": siblings, "tags": []})

    def do_POST(self) -> None:
        body = self._body()
        if self._is_refused():
            return
        path, repos = self.path.partition("?")[0], self.server.repos
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            new = name not in repos
            private = bool(asked.get("private") or asked.get("visibility") == "private")
            repos.setdefault(name, {"private": private, "files": {}, "commits": []})
            self._reply(200 if new else 409, {"url": f"{self.server.address}/{name}", "error": "You already have it"})
        elif path == "/api/validate-yaml":
            self._reply(200, {"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            # the hub takes large files through a protocol of its own, which the client's own tests cover
            files = [file["path"] for file in json.loads(body)["files"]]
            listed = [{"path": file, "uploadMode": "regular", "shouldIgnore": False} for file in files]
            self._reply(200, {"files": listed})
        elif found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            repo = repos[found[1]]
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    repo["commits"].append(value["summary"])
                elif line["key"] == "file":
                    repo["files"][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "deletedFile":
                    del repo["files"][value["path"]]
            sha = f"{len(repo['commits']):040x}"
            self._reply(
                200, {"success": True, "commitUrl": f"{self.server.address}/{found[1]}/commit/{sha}", "commitOid": sha}
            )
        else:
            self._reply(404, {"error": f"no such path: {path}"})


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A server in a thread of this process, until the end of the block."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
