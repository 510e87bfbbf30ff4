"""A hub on this machine with one repository, slow enough to be disturbed."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = "org/model"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE, _PAUSE = 1 << 16, 0.05
"""Bytes that are sent at once, and the seconds between them."""


class LoopbackHub(ThreadingHTTPServer):
    """Serves the files of a folder as a repository.

    Args:
        folder: the files.

    Attributes:
        silent_after: bytes after which a file's answer goes on no further, while its connection
            stays open; None for never.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.silent_after: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def serve(folder: Path) -> LoopbackHub:
    """A hub that serves a folder as long as this process runs."""
    hub = LoopbackHub(folder)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    return hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path, files = urlsplit(self.path).path, self.server.files
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            return self._json([_entry(name, data) for name, data in files.items()])
        if path.startswith(f"/api/models/{REPOSITORY}"):
            names = [{"rfilename": name} for name in files]
            return self._json({"id": REPOSITORY, "sha": _COMMIT, "siblings": names})
        found = re.fullmatch(rf"/{REPOSITORY}/resolve/[^/]+/(.*)", path)
        if found is None or found[1] not in files:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self._file(files[found[1]], body)

    def _file(self, data: bytes, body: bool) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            self._send(data, start)

    def _send(self, data: bytes, start: int) -> None:
        silent = self.server.silent_after
        try:
            for begin in range(start, len(data), _PIECE):
                if silent is not None and begin + _PIECE > silent and len(data) > silent:
                    self.wfile.write(data[begin:silent])
                    threading.Event().wait()
                self.wfile.write(data[begin : begin + _PIECE])
                time.sleep(_PAUSE if len(data) > _PIECE else 0)
        except OSError:  # Whoever asked was killed.
            self.close_connection = True

    def _json(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _entry(name: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha1(data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": digest}
