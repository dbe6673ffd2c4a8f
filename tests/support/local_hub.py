"""A server that gives data sets as the Hugging Face hub does, as far as `datasets` and `huggingface_hub` ask it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote


class _Hub(BaseHTTPRequestHandler):
    """Serves one repository: a folder, at one commit, which is also its branch main."""

    protocol_version = "HTTP/1.1"
    name: str
    folder: Path
    commit: str

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(asked)["paths"] if asked.startswith("{") else [p[6:] for p in unquote(asked).split("&")]
        self._json([self._entry(self.folder / path) for path in paths if (self.folder / path).is_file()])

    def _answer(self, body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        files, api = f"/datasets/{self.name}/resolve/", f"/api/datasets/{self.name}"
        if path.startswith(files):
            _, _, inside = path.removeprefix(files).partition("/")
            file = self.folder / inside
            self._file(file, body) if file.is_file() else self._missing()
        elif path.startswith(f"{api}/tree/"):
            inside = path.removeprefix(f"{api}/tree/").partition("/")[2]
            entries = [self._entry(found) for found in sorted((self.folder / inside).rglob("*"))]
            self._json(entries)
        elif path == api or path.startswith(f"{api}/revision/"):
            names = [str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file()]
            siblings = [{"rfilename": name} for name in sorted(names)]
            self._json({"id": self.name, "sha": self.commit, "siblings": siblings, "private": False, "gated": False})
        else:
            self._missing()

    def _entry(self, found: Path) -> dict[str, Any]:
        inside = str(found.relative_to(self.folder))
        if found.is_dir():
            return {"type": "directory", "path": inside, "oid": "0" * 40, "size": 0}
        return {"type": "file", "path": inside, "oid": _digest(found), "size": found.stat().st_size}

    def _file(self, file: Path, body: bool) -> None:
        content = file.read_bytes()
        self._send(200, content if body else b"", len(content), ETag=f'"{_digest(file)}"')

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self._send(200, content, len(content), **{"Content-Type": "application/json"})

    def _missing(self) -> None:
        self._send(404, b"", 0, **{"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, content: bytes, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": self.commit, "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def local_hub(name: str, folder: Path, commit: str) -> Iterator[str]:
    """Serve a folder as the data set OWNER/NAME at a commit; gives the hub's address."""
    handler = type("Hub", (_Hub,), {"name": name, "folder": folder, "commit": commit})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
