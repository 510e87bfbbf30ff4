"""A hub on loopback, which speaks what the real client of the Hugging Face hub asks for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_good"
"""The token that opens private repositories, and gated ones."""


@dataclass
class Repository:
    """A repository of a model.

    Attributes:
        files: the main branch's files.
        older: the files of other commits, by commit.
        refs: commits by branch or tag.
        gated: whether its files, though not its description, need a token.
        private: whether all of it does.
        claimed: sizes that the hub claims files to have, and they have not.
        gguf: what the hub says of its GGUF file's header.
    """

    files: dict[str, bytes]
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    claimed: dict[str, int] = field(default_factory=dict)
    gguf: dict[str, Any] | None = None

    def commit(self, revision: str) -> str | None:
        if revision == "main":
            return COMMIT
        known = self.refs.get(revision, revision)
        return known if known == COMMIT or known in self.older else None

    def at(self, commit: str) -> dict[str, bytes]:
        return self.files if commit == COMMIT else self.older[commit]


class Hub(ThreadingHTTPServer):
    """The hub. ``org/model`` has the files that it is made with; ``org/gated`` is closed entirely.

    Attributes:
        repositories: what it has, by name.
        requests: what was asked for: method, path and range.
        cut: names of files whose next answer breaks off in the middle.
        stalled: names of files whose answers stop in the middle, the connection left open.
        silent: parts of paths that are never answered.
        on_cdn: names of files that are served from another path, as large ones are.
        authorizations: the headers of that name that came.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {"org/model": Repository(files)}
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut: set[str] = set()
        self.stalled: set[str] = set()
        self.silent: set[str] = set()
        self.on_cdn: set[str] = set()
        self.authorizations: set[str | None] = set()
        self.closing = threading.Event()
        self.sent = threading.Event()
        """Set when half of a stalled file was sent."""

    @property
    def files(self) -> dict[str, bytes]:
        return self.repositories["org/model"].files

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def cdn(self) -> str:
        """The same server, as one of another name."""
        return f"http://localhost:{self.server_port}"

    def asked(self, name: str) -> list[str | None]:
        """The ranges in which the content of a file was asked for."""
        return [
            part
            for method, path, part in self.requests
            if method == "GET" and path.endswith("/" + name) and "/api/" not in path
        ]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave are no news."""


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """Serve in a thread of its own until the context is left."""
    # It looks this often, in seconds, whether it is to stop; by default twice a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.server.authorizations.add(self.headers.get("Authorization"))
        if any(part in path for part in self.server.silent):
            self.server.closing.wait(60)
            return None
        if "/org/gated" in path:
            return self._refuse(403, "GatedRepo")
        found = re.fullmatch(r"(?:/api/models|/cdn)?/([\w-]+/[\w-]+)(/.*)?", path)
        repository = self.server.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            return self._refuse(404, "RepoNotFound")
        welcome = TOKEN in self.headers.get("Authorization", "")
        if repository.private and not welcome:
            return self._refuse(401, "", "Invalid username or password.")
        rest = found[2] or ""
        if path.startswith("/api/"):
            return self._describe(repository, found[1], rest)
        if repository.gated and not welcome:
            return self._refuse(403, "GatedRepo", "Access is restricted. Visit the page to ask.")
        if path.startswith("/cdn/"):
            return self._content(rest[1:], repository.files[rest[1:]], body)
        return self._resolve(repository, found[1], rest, body)

    def _describe(self, repository: Repository, name: str, rest: str) -> None:
        found = re.fullmatch(r"/?(revision|tree)?/?(.*)", rest)
        assert found is not None
        commit = repository.commit(found[2] or "main")
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        files = repository.at(commit)
        sizes = {file: repository.claimed.get(file, len(data)) for file, data in files.items()}
        if found[1] == "tree":
            return self._json(
                [
                    {"type": "file", "path": file, "size": size, "oid": _digest(files[file])}
                    for file, size in sizes.items()
                ]
            )
        siblings = [{"rfilename": file, "size": size} for file, size in sizes.items()]
        described: dict[str, Any] = {"id": name, "sha": commit, "siblings": siblings}
        return self._json(described | ({"gguf": repository.gguf} if repository.gguf else {}))

    def _resolve(self, repository: Repository, name: str, rest: str, body: bool) -> None:
        found = re.fullmatch(r"/resolve/(refs/pr/\d+|[^/]+)/(.+)", rest)
        commit = repository.commit(found[1]) if found else None
        if found is None or commit is None:
            return self._refuse(404, "RevisionNotFound")
        file = found[2]
        data = repository.at(commit).get(file)
        if data is None:
            return self._refuse(404, "EntryNotFound")
        if file not in self.server.on_cdn:
            return self._content(file, data, body, commit)
        self.send_response(302)
        self.send_header("Location", f"{self.server.cdn}/cdn/{name}/{file}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, name: str, data: bytes, body: bool, commit: str = COMMIT) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{_digest(data)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if not body:
            return
        if name not in self.server.cut | self.server.stalled:
            self.wfile.write(data[start:])
            return
        self.wfile.write(data[start : (start + len(data)) // 2])
        self.wfile.flush()
        if name in self.server.stalled:
            self.server.sent.set()
            self.server.closing.wait(60)
        else:
            self.server.cut.remove(name)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str, message: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
