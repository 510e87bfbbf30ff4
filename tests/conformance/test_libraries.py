"""Libraries that tests share: compiled once, and never mistaken for another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import Device, LibraryRequest, ModelSpec
from mlc_llm.quantization import plan
from mlc_llm.testing import FakeArchitecture, FakeDevice
from mlc_llm.testing.libraries import RUN_VARIABLE, compiled_once, library_key, run_folder

ASKS = """
import os, sys
from pathlib import Path
from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing.libraries import compiled_once

def write(path):
    print("compiled", flush=True)
    sys.stdin.readline()
    path.write_bytes(b"code")

compiled_once(LibraryCache(Path(sys.argv[1])), "key", write)
print("done", flush=True)
"""


@pytest.fixture
def cache(tmp_path: Path) -> LibraryCache:
    return LibraryCache(tmp_path / "libraries")


def test_the_first_that_asks_compiles(cache: LibraryCache) -> None:
    written: list[Path] = []

    def write(path: Path) -> None:
        written.append(path)
        path.write_bytes(b"code")

    found = compiled_once(cache, "key", write)
    assert found.read_bytes() == b"code"
    assert compiled_once(cache, "key", write) == found
    assert len(written) == 1
    found.write_bytes(b"cod")
    assert compiled_once(cache, "key", write).read_bytes() == b"code"
    assert compiled_once(cache, "other key", write) != found
    assert len(written) == 3


def test_two_processes_compile_once(cache: LibraryCache) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", ASKS, str(cache.folder)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "compiled\n"
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as second:
            assert first.communicate("go\n")[0] == "done\n"
            assert second.communicate("go\n")[0] == "done\n"


def test_a_failure_leaves_nothing(cache: LibraryCache) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        compiled_once(cache, "key", fail)
    assert not cache.path("key").exists()
    assert not list((cache.folder / "building").rglob("*.so"))


def request_for(device: Device, architecture: str, tmp_path: Path) -> LibraryRequest:
    spec = ModelSpec(architecture=architecture, shape={"hidden_size": 64}, plan=plan("q4f16_1"))
    return LibraryRequest(spec, device.name, device.target(), tmp_path)


def test_a_chat_finds_what_is_compiled_for_installed_plugins(tmp_path: Path) -> None:
    request = request_for(CPU, "llama", tmp_path)
    assert library_key(request, LLAMA, CPU) == JITProvider().key(request)


def test_plugins_of_one_name_are_told_apart(tmp_path: Path) -> None:
    class OtherArchitecture(FakeArchitecture):
        pass

    class OtherDevice(FakeDevice):
        pass

    fakes = [(a, d) for a in (FakeArchitecture(), OtherArchitecture()) for d in (CPU, FakeDevice())]
    fakes += [(FakeArchitecture(), OtherDevice()), (FakeArchitecture("llama"), CPU), (LLAMA, CPU)]
    keys = {library_key(request_for(d, a.name, tmp_path), a, d) for a, d in fakes}
    assert len(keys) == len(fakes)


def test_the_workers_of_a_run_share_a_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.getbasetemp()
    assert run_folder(tmp_path_factory) == Path(os.environ[RUN_VARIABLE])  # set by conftest.py
    monkeypatch.delenv(RUN_VARIABLE)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    assert run_folder(tmp_path_factory).parent == base.parent
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert run_folder(tmp_path_factory).parent == base
