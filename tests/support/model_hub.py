"""A server that keeps a model's repository as the Hugging Face hub does, as far as `huggingface_hub` asks it."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote


class ModelHub:
    """What the server was sent.

    Attributes:
        url: its address, for HF_ENDPOINT.
        files: by repository and path.
        tokens: that requests which write showed.
        requests: method and path of every request.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, dict[str, bytes]] = {}
        self.tokens: set[str] = set()
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ModelHub

    def do_HEAD(self) -> None:
        self._read(body=False)

    def do_GET(self) -> None:
        self._read(body=True)

    def do_POST(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(f"POST {path}")
        content = self._body()
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        if path == "/api/repos/create":
            asked = json.loads(content)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.files.setdefault(name, {})
            self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = json.loads(content)["files"]
            self._json({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            for line in content.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    self.hub.files[match[1]][value["path"]] = base64.b64decode(value["content"])
            commit = self._commit(match[1])
            self._json(
                {"commitUrl": f"{self.hub.url}/{match[1]}/commit/{commit}", "commitOid": commit, "success": True}
            )
        else:
            self._send(404, b"")

    def _read(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(f"{self.command} {path}")
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/.*)?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        if about and about[1] in self.hub.files:
            files = self.hub.files[about[1]]
            if about[2] == "tree":
                self._json([_entry(name, content) for name, content in sorted(files.items())])
            else:
                siblings = [{"rfilename": name} for name in sorted(files)]
                self._json({"id": about[1], "sha": self._commit(about[1]), "siblings": siblings, "private": False})
        elif file and file[2] in self.hub.files.get(file[1], {}):
            content = self.hub.files[file[1]][file[2]]
            self._send(
                200,
                content,
                body=body,
                ETag=f'"{_entry("", content)["oid"]}"',
                **{"X-Repo-Commit": self._commit(file[1])},
            )
        else:
            self._send(404, b"", **{"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _commit(self, name: str) -> str:
        contents = [path.encode() + content for path, content in sorted(self.hub.files[name].items())]
        return hashlib.sha1(b"".join(contents)).hexdigest()

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    return {"type": "file", "path": path, "oid": oid, "size": len(content)}


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """Run an empty hub of models."""
    hub = ModelHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
