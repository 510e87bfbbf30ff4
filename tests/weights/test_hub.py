"""Fetching from a hub: a local server that speaks what ``huggingface_hub`` asks for."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mlc_llm.errors import HubError
from mlc_llm.testing import raises
from mlc_llm.weights.hub import HubReference

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCH = """
import json, logging, sys, traceback
if sys.argv.pop(1) == "debug":
    logging.basicConfig(level=logging.DEBUG)
else:
    logging.basicConfig(level=logging.WARNING)
from mlc_llm.errors import HubError
from mlc_llm.weights.locate import resolve_model
for model in sys.argv[1:]:
    try:
        found = {"path": str(resolve_model(model, progress=True))}
    except HubError as error:
        traceback.print_exc()
        found = {"error": str(error), "code": error.code}
    print(json.dumps(found))
"""


class Hub(ThreadingHTTPServer):
    """A hub with the repository ``org/model``; ``org/gated`` is gated, any other is missing.

    Attributes:
        files: the repository's files.
        requests: what was asked for: method, path and range.
        cut: names of files whose next answer breaks off in the middle.
        silent: parts of paths that are never answered.
        authorizations: the headers of that name that came.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.requests, self.cut = files, [], set()
        self.silent, self.authorizations = set(), set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        path = urlsplit(self.path).path
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        self.server.authorizations.add(self.headers.get("Authorization"))
        if any(part in path for part in self.server.silent):
            time.sleep(30)
            return None
        if "/org/gated" in path:
            return self._refuse(403, "GatedRepo")
        if "/org/model" not in path:
            return self._refuse(404, "RepoNotFound")
        if "nosuchtag" in path:
            return self._refuse(404, "RevisionNotFound")
        if path.startswith("/api/models/org/model/tree/"):
            return self._json([_entry(name, data) for name, data in self.server.files.items()])
        if path.startswith("/api/models/org/model"):
            siblings = [{"rfilename": name} for name in self.server.files]
            return self._json({"id": "org/model", "sha": COMMIT, "siblings": siblings})
        name = re.fullmatch(r"/org/model/resolve/[^/]+/(.*)", path)[1]
        return self._file(name, self.server.files[name], body)

    def _file(self, name, data, body):
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body and name in self.server.cut:
            self.server.cut.remove(name)
            self.wfile.write(data[start : (start + len(data)) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif body:
            self.wfile.write(data[start:])

    def _json(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(name, data):
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@pytest.fixture
def hub(model_folder):
    files = {path.name: path.read_bytes() for path in model_folder.iterdir()}
    files["library.so"] = b"native code"
    files["onnx/model.json"] = b"{}"
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetch(tmp_path):
    """Resolve models in a child process, whose hub settings are its own."""

    def run(endpoint, *models, log=None, **variables):
        environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "huggingface"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MLC_LLM_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        command = [sys.executable, "-c", FETCH, "warnings" if log is None else "debug", *models]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        if log is None:
            assert "%|" not in done.stderr  # no progress where stderr is no terminal
        else:
            log.append(done.stdout + done.stderr)
        run.said = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_fetch_cache_and_refusals(hub, fetch):
    models = ["HF://org/model", "HF://org/model@nosuchtag", "HF://org/none", "HF://org/gated"]
    found, revision, missing, gated = fetch(hub.url, *models)
    folder = Path(found["path"])
    expected = {name for name in hub.files if name not in ("library.so", "onnx/model.json")}
    assert {path.name for path in folder.iterdir()} == expected
    assert all((folder / name).read_bytes() == hub.files[name] for name in expected)
    told = (revision["code"], missing["code"], gated["code"])
    assert told == ("revision-unknown", "repository-not-found", "repository-gated")
    assert "'nosuchtag'" in revision["error"]
    assert "org/none" in missing["error"]
    assert "HF_TOKEN" in missing["error"]
    assert f"{hub.url}/org/gated" in gated["error"]

    before = len(hub.requests)
    again, by_address = fetch(hub.url, "hf://org/model", "https://huggingface.co/org/model")
    assert again == by_address == found
    assert not any("/resolve/" in path for _, path, _ in hub.requests[before:])

    before = len(hub.requests)
    offline, absent = fetch(hub.url, "HF://org/model", "HF://org/other", HF_HUB_OFFLINE="1")
    assert offline == found
    assert absent["code"] == "model-not-cached"
    assert re.search("HF://org/other .*HF_HUB_OFFLINE", absent["error"])
    assert len(hub.requests) == before


def test_an_interrupted_download_is_resumed(hub, fetch):
    name = "large.txt"
    hub.files[name] = os.urandom(24 << 20)  # more than the client writes at a time
    hub.cut.add(name)
    found = fetch(hub.url, "HF://org/model")[0]
    if "error" in found:  # a client that leaves trying again to the user
        found = fetch(hub.url, "HF://org/model")[0]
    assert (Path(found["path"]) / name).read_bytes() == hub.files[name]
    ranges = [asked for _, path, asked in hub.requests if path.endswith(name) and asked]
    assert any(re.fullmatch(r"bytes=[1-9]\d*-", asked) for asked in ranges)


def test_no_network(fetch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        found = fetch(endpoint, "HF://org/model")[0]
    assert found["code"] == "hub-unreachable"
    assert endpoint in found["error"]


SILENT = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


@pytest.mark.parametrize("part", ["/api/models/org/model", "/tree/"])
def test_a_hub_that_does_not_answer(hub, fetch, part):
    hub.silent.add(part)
    begin = time.monotonic()
    found = fetch(hub.url, "HF://org/model", **SILENT)[0]
    error = found["error"]
    assert found["code"] == "hub-unreachable"
    assert hub.url in error
    assert "HF://org/model is not" in error
    assert "no answer within 2 seconds" in error or "timed out" in error
    assert time.monotonic() - begin < 25  # most of it the start of Python


def test_a_hub_that_does_not_answer_for_a_model_in_the_cache(hub, fetch):
    found = fetch(hub.url, "HF://org/model")
    assert "in vain" not in fetch.said
    hub.silent.add("/")
    begin = time.monotonic()
    assert fetch(hub.url, "HF://org/model", **SILENT) == found
    assert time.monotonic() - begin < 25
    said = (
        rf"{hub.url} was asked for HF://org/model in vain \(.*\): the files in the cache are used"
    )
    assert re.search(said, fetch.said)


def test_a_socket_that_nobody_reads(fetch):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        error = fetch(endpoint, "HF://org/model", **SILENT)[0]["error"]
    assert f"{endpoint} could not be reached" in error


@pytest.mark.parametrize("wrong", ["http://a:secret/x@b", "http://[::", "http://b:x", "b", ""])
def test_an_endpoint_that_is_no_address(fetch, wrong):
    log = []
    error = fetch(wrong, "HF://org/model", log=log)[0]["error"]
    assert "HF_ENDPOINT is not the address of a hub" in error
    assert "secret" not in log[0]


@pytest.mark.parametrize("secret", ["top-secret", "top@secret", "top%40secret:9"])
def test_credentials_of_the_endpoint_are_sent_and_not_shown(hub, fetch, secret):
    models, log = ["HF://org/model", "HF://org/none", "HF://org/gated"], []
    endpoint = hub.url.replace("://", f"://someone:{secret}@")
    found, missing, gated = fetch(endpoint, *models, log=log)
    assert "path" in found
    sent = base64.b64encode(f"someone:{unquote(secret)}".encode()).decode()
    assert hub.authorizations == {f"Basic {sent}"}
    assert hub.url in missing["error"]
    assert hub.url in gated["error"]
    for wrong in (endpoint + "9999999", endpoint.replace("http", "wrong"), endpoint + " "):
        assert "error" in fetch(wrong, "HF://org/other", log=log)[0]
    assert not any("secret" in text or sent in text for text in log)


@pytest.mark.parametrize("token", ["hf_top\x1bsecret", "hf_top secret", "hf_topsécret"])
def test_a_token_that_cannot_be_one_is_not_shown(hub, fetch, token):
    log = []
    error = fetch(hub.url, "HF://org/model", log=log, HF_TOKEN=token)[0]["error"]
    assert "The hub's token (HF_TOKEN, or the one of `hf auth login`) holds a character" in error
    assert not hub.requests
    assert not any("secret" in text or "sécret" in text for text in log)


def test_a_token_is_not_shown(hub, fetch):
    log = []
    fetch(hub.url, "HF://org/model", "HF://org/none", log=log, HF_TOKEN="hf_topsecret")
    assert hub.authorizations == {"Bearer hf_topsecret"}
    assert not any("topsecret" in text for text in log)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    return bytes(data)


def test_verified_once_and_again_when_a_file_has_changed(hub, fetch, tmp_path):
    folder = Path(fetch(hub.url, "HF://org/model")[0]["path"])
    [stamp] = (tmp_path / "cache" / "verified").iterdir()
    written = stamp.stat().st_mtime_ns
    assert "path" in fetch(hub.url, "HF://org/model")[0]
    assert stamp.stat().st_mtime_ns == written  # it was not verified again
    # Fetched again, with an error of a bit.
    blob = (folder / "params_shard_0.bin").resolve()
    data, times = _flip(blob), (blob.stat().st_atime_ns, blob.stat().st_mtime_ns)
    blob.unlink()
    blob.write_bytes(data)
    os.utime(blob, ns=times)
    for _ in range(2):
        error = fetch(hub.url, "HF://org/model")[0]["error"]
        assert re.search(r"HF://org/model.*damaged.*params_shard_0\.bin.*MD5", error)
    blob.write_bytes(_flip(blob))
    assert "path" in fetch(hub.url, "HF://org/model")[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"[]", b"null"])
def test_a_stamp_of_an_older_version_or_a_damaged_one(hub, fetch, tmp_path, content):
    fetch(hub.url, "HF://org/model")
    [stamp] = (tmp_path / "cache" / "verified").iterdir()
    good = stamp.read_bytes()
    stamp.write_bytes(content)
    assert "path" in fetch(hub.url, "HF://org/model")[0]
    assert stamp.read_bytes() == good


def test_damaged_weights_are_found(hub, fetch):
    manifest = json.loads(hub.files["tensor-cache.json"])
    manifest["records"][0]["md5sum"] = "0" * 32
    hub.files["tensor-cache.json"] = json.dumps(manifest).encode()
    found = fetch(hub.url, "HF://org/model")[0]
    assert found["code"] == "download-damaged"
    assert re.search(r"HF://org/model.*params_shard_0\.bin.*MD5", found["error"])


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("HF://org/name", "org/name", None),
        ("hf://org/na.me-1_x/", "org/na.me-1_x", None),
        ("HF://org/name@v1.0", "org/name", "v1.0"),
        ("HF://org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("https://huggingface.co/org/name", "org/name", None),
        ("https://huggingface.co/org/name.git", "org/name", None),
        ("https://huggingface.co/org/name/tree/main", "org/name", "main"),
    ],
)
def test_references(text, repository, revision):
    assert HubReference.parse(text) == HubReference(repository, revision)


@pytest.mark.parametrize(
    "text", ["org/name", "dist/model", "/abs/path", "C:\\model", "", "HF:/a/b"]
)
def test_what_is_no_reference(text):
    assert HubReference.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("HF://", "HF://name", "HF://a/b/c", "HF://../..", "HF://org/na me", "HF://-x/y"),
        *("HF://org/name@a b", "HF://org/name@\0", "HF://org/name@\ud800", "HF://org/name@a/../b"),
        *("HF://org/" + "a" * 300, "HF://org/name@" + "a" * 300, "HF://org/name@\x1b[31m"),
    ],
)
def test_malformed_references(text):
    with raises("repository-malformed", "HF://org/name", error=HubError) as caught:
        HubReference.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
