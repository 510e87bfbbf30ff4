"""The cache and the compiling child: once for all, whole or not at all.

A stand-in for the compiler writes a file with a record, or fails in every way that we know.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.errors import LibraryError
from mlc_llm.library.cache import LibraryCache, cache_folder
from mlc_llm.library.jit import JITProvider
from mlc_llm.library.record import read_record
from mlc_llm.library.resolve import resolve_library
from mlc_llm.plugin import Found, LibraryRequest, ModelSpec, NotFound
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import Registry
from mlc_llm.source_digest import source_digest
from mlc_llm.testing import raises

MakeRequest = Callable[..., LibraryRequest]
MakeProvider = Callable[..., JITProvider]

WORKER = """
import json, os, pathlib, sys
from mlc_llm.registry.child import exit_with_parent
from mlc_llm.plugin.model_library import LibraryRecord
exit_with_parent()
mode, folder, head = sys.argv[1], pathlib.Path(sys.argv[2]), bytes.fromhex(sys.argv[3])
job = json.loads(pathlib.Path(sys.argv[5]).read_text())
with (folder / "log").open("a") as log:
    log.write(mode + "\\n")
output = pathlib.Path(job["output"])
def write(**changes):
    from mlc_llm.version import tvm_version
    fields = dict(tvm=tvm_version(), project="0", spec=job["spec"], device=job["device"],
                  target=job["target"])
    output.write_bytes(head + LibraryRecord(**{**fields, **changes}).embedded().encode())
if mode == "good":
    write()
elif mode == "wait":
    with (folder / "started").open("w") as pipe:
        pipe.write("up")
        pipe.flush()
        with (folder / "go").open() as go:
            go.read()
    write()
elif mode == "killed":
    output.write_bytes(head)
    os.kill(os.getpid(), 9)
elif mode == "error":
    print("noise")
    print(json.dumps({"error": "No C compiler. Install gcc.", "traceback": "T"}))
    sys.exit(1)
elif mode == "environment":
    print(json.dumps({"error": str(os.environ.get("TVM_USE_RUNTIME_LIB")), "traceback": ""}))
    sys.exit(1)
elif mode == "full":
    with open("/dev/full", "wb") as file:
        file.write(b"code")
elif mode == "mute":
    print("{not json")
    sys.exit("LLVM ERROR: out of registers")
elif mode == "crashing":
    print("LLVM ERROR: IO failure: File too large", file=sys.stderr)
    print("File sigaction.c, line 0, in 0x7fa3", file=sys.stderr)
    sys.stderr.flush()
    os.kill(os.getpid(), 11)
elif mode == "nothing":
    pass
elif mode == "wrong":
    write(device="cuda")
"""

PARENT = """
import logging, pathlib, sys
from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.plugin import LibraryRequest, ModelSpec
from mlc_llm.registry.registry import Registry
from mlc_llm.source_digest import source_digest
logging.basicConfig(level=logging.INFO, format="%(message)s")
spec = ModelSpec.model_validate_json(sys.argv[1])
target = {"kind": "llvm", "mcpu": "x86-64-v3"}
request = LibraryRequest(spec, "cpu", target, pathlib.Path("model"))
provider = JITProvider(LibraryCache(pathlib.Path(sys.argv[2])), sys.argv[3:], Registry(allowed=[]))
try:
    print(provider.mlc_llm_find_library(request).path)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def cache(tmp_path: Path) -> LibraryCache:
    return LibraryCache(tmp_path / "cache" / "libraries")


@pytest.fixture
def worker(tmp_path: Path, head: Callable[..., bytes]) -> Callable[[str], list[str]]:
    """The command of the stand-in compiler in one of its modes."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return lambda mode: [sys.executable, str(script), mode, str(tmp_path), head().hex()]


@pytest.fixture
def provider(cache: LibraryCache, worker: Callable[..., Any], registry: Registry) -> MakeProvider:
    return lambda mode="good": JITProvider(cache, worker(mode), registry)


@pytest.fixture
def log(tmp_path: Path) -> Callable[[], list[str]]:
    """The modes in which the stand-in has run, in order."""
    path = tmp_path / "log"
    return lambda: path.read_text().split() if path.exists() else []


def leftovers(cache: LibraryCache) -> list[Path]:
    return [path for path in (cache.folder / "building").rglob("*") if path.is_file()]


class TestCaching:
    def test_compiles_once(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
    ) -> None:
        request = make_request()
        found = provider().mlc_llm_find_library(request)
        assert isinstance(found, Found)
        assert found.path.parent == cache.folder
        assert found.path.name.startswith("llama-q4f16_1-cpu-")
        assert read_record(found.path).spec == request.spec
        assert provider().mlc_llm_find_library(request) == found
        assert log() == ["good"]
        assert leftovers(cache) == []

    def test_two_fine_tunes_share_one_file_and_other_shapes_do_not(
        self,
        tmp_path: Path,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
    ) -> None:
        find = provider().mlc_llm_find_library
        first = find(make_request())
        assert find(make_request(model_path=tmp_path / "fine-tune")) == first
        spec = ModelSpec(architecture="llama", shape={"hidden_size": 65}, plan=plan("q4f16_1"))
        assert find(make_request(spec=spec)).path != first.path
        assert log() == ["good", "good"]

    def test_everything_that_matters_is_in_the_key(
        self, provider: MakeProvider, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        jit = provider()
        spec = make_request().spec
        keys = {jit.key(make_request())}
        mixed = spec.plan.model_copy(update={"embedding": plan("q0f16").embedding})
        for name, value in {"opt": "a=b", "plan": mixed, "architecture": "x/y"}.items():
            keys.add(jit.key(make_request(spec=spec.model_copy(update={name: value}))))
        keys.add(jit.key(make_request(target={"kind": "llvm", "mcpu": "znver4"})))
        for name in ("tvm_version", "source_digest"):
            monkeypatch.setattr(f"mlc_llm.library.jit.{name}", lambda *_: "other")
            keys.add(jit.key(make_request()))
            monkeypatch.undo()
        monkeypatch.setattr("mlc_llm.library.jit.__version__", "9")
        keys.add(jit.key(make_request()))
        assert len(keys) == 8
        assert not any(set("/\\: ") & set(key) for key in keys)

    def test_the_source_of_the_compiler_counts(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        digests = []
        for name, source in {"pass_1": "X = 1", "pass_2": "X = 1", "pass_3": "X = 2"}.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not imported')")
            (tmp_path / name / "lower.py").write_text(source)
            digests.append(source_digest((name,)))
        assert digests[0] == digests[1] != digests[2]
        (tmp_path / "pass_4" / "kernels").mkdir(parents=True)
        (tmp_path / "pass_4" / "__init__.py").touch()
        before = source_digest.__wrapped__(("pass_4",))
        (tmp_path / "pass_4" / "kernels" / "product.cuh").touch()
        assert source_digest.__wrapped__(("pass_4",)) != before
        # A module stands for its package; what was not imported from a file is left out.
        assert source_digest(("mlc_llm.library.jit",)) == source_digest(("mlc_llm.library",))
        assert source_digest(("no.such.module", "sys")) == source_digest(())

    def test_the_source_that_a_device_inherits_counts(
        self,
        tmp_path: Path,
        provider: MakeProvider,
        registry: Registry,
        make_request: MakeRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A device that derives from another package's is compiled again when that changes."""
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "base_device.py").write_text(
            "from mlc_llm.device.cpu import CPUDevice\nclass Base(CPUDevice): pass\n"
        )
        base = importlib.import_module("base_device").Base
        device = type("Derived", (base,), {"__module__": "no.such.module"})()
        monkeypatch.setattr(registry, "device", lambda name: device)
        before = provider().key(make_request())
        (tmp_path / "base_device.py").write_text("# changed")
        source_digest.cache_clear()
        assert provider().key(make_request()) != before

    @pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "other"])
    def test_a_corrupted_entry_is_compiled_again(
        self,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        caplog: pytest.LogCaptureFixture,
        damage: str,
    ) -> None:
        find = provider().mlc_llm_find_library
        found = find(make_request())
        whole = found.path.read_bytes()
        text = {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "garbage": b"\0" * 100,
            "other": whole.replace(b'"mcpu":"x86-64-v3"', b'"mcpu":"znver5"'),
        }[damage]
        assert text != whole
        found.path.write_bytes(text)
        assert find(make_request()) == found
        assert found.path.read_bytes() == whole
        assert log() == ["good", "good"]
        assert "compiled again: it" in caplog.text

    def test_a_named_file_is_not_its_business(
        self, tmp_path: Path, provider: MakeProvider, make_request: MakeRequest
    ) -> None:
        assert provider().mlc_llm_find_library(make_request(named=tmp_path / "x.so")) is None

    def test_the_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "c"))
        assert cache_folder() == tmp_path / "c" / "libraries"
        monkeypatch.delenv("MLC_LLM_CACHE")
        assert cache_folder().name == "libraries"
        assert cache_folder().is_absolute()


class TestFailure:
    @pytest.mark.parametrize(
        ("mode", "reason"),
        [
            ("error", "No C compiler. Install gcc"),
            ("mute", "ended with exit status 1; it said: LLVM ERROR: out of registers"),
            ("crashing", "crashed with SIGSEGV; it said: LLVM ERROR: IO failure: File too large"),
            ("killed", "crashed with SIGKILL, perhaps because the memory was full"),
            ("nothing", "the compiler's result does not serve: there is no such file"),
            ("wrong", "does not serve: it is for the device 'cuda', not 'cpu'"),
        ],
    )
    def test_is_told_and_leaves_nothing(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        mode: str,
        reason: str,
    ) -> None:
        answer = provider(mode).mlc_llm_find_library(make_request())
        assert isinstance(answer, NotFound)
        assert reason in answer.looked_at[0][1]
        assert leftovers(cache) == []
        assert list(cache.folder.glob("*.*")) == []
        assert isinstance(provider().mlc_llm_find_library(make_request()), Found)

    @pytest.mark.skipif(sys.platform != "linux", reason="the device that is always full is Linux's")
    def test_a_full_disk_while_compiling(
        self, cache: LibraryCache, provider: MakeProvider, make_request: MakeRequest
    ) -> None:
        answer = provider("full").mlc_llm_find_library(make_request())
        ((_, reason),) = answer.looked_at
        assert reason.startswith("the disk is full")
        assert str(cache.folder) in reason
        assert "free some space, or MLC_LLM_CACHE names" in reason
        assert leftovers(cache) == []

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_before_and_after(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(code, os.strerror(code))

        for name in ("os.fsync", "tempfile.mkdtemp"):
            monkeypatch.setattr(name, refuse)
            answer = provider().mlc_llm_find_library(make_request())
            ((place, reason),) = answer.looked_at
            assert place == str(cache.folder)
            assert os.strerror(code) in reason
            assert "free some space, or MLC_LLM_CACHE names" in reason
        assert list(cache.folder.glob("*.*")) == []

    def test_the_child_has_all_of_tvm(
        self, provider: MakeProvider, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TVM_USE_RUNTIME_LIB", "1")
        answer = provider("environment").mlc_llm_find_library(make_request())
        assert answer.looked_at == (("compiling it failed", "None"),)

    def test_a_compiler_that_cannot_be_started(
        self, cache: LibraryCache, make_request: MakeRequest, registry: Registry
    ) -> None:
        jit = JITProvider(cache, ["/no/such/compiler"], registry)
        answer = jit.mlc_llm_find_library(make_request())
        assert "/no/such/compiler" in answer.looked_at[0][1]

    def test_a_cache_that_cannot_be_written(
        self,
        tmp_path: Path,
        worker: Callable[..., Any],
        make_request: MakeRequest,
        registry: Registry,
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        jit = JITProvider(LibraryCache(tmp_path / "file" / "libraries"), worker("good"), registry)
        answer = jit.mlc_llm_find_library(make_request())
        ((place, reason),) = answer.looked_at
        assert place == str(tmp_path / "file" / "libraries")
        assert "MLC_LLM_CACHE names another folder" in reason

    def test_no_interpreter(
        self,
        cache: LibraryCache,
        make_request: MakeRequest,
        registry: Registry,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sys, "executable", "")
        answer = JITProvider(cache, None, registry).mlc_llm_find_library(make_request())
        reason = answer.looked_at[0][1]
        assert "cannot start one" in reason
        assert "compile it with `mlc_llm compile`" in reason


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes and SIGINT are POSIX's")
class TestProcesses:
    """Several processes at work; named pipes say what has happened, so that nothing is timed."""

    @pytest.fixture
    def start(
        self,
        tmp_path: Path,
        cache: LibraryCache,
        worker: Callable[[str], list[str]],
        make_request: MakeRequest,
    ) -> Callable[[str], subprocess.Popen[str]]:
        """Start a process that asks for the library, its compiler in the given mode."""
        os.mkfifo(tmp_path / "started")
        os.mkfifo(tmp_path / "go")
        spec = make_request().spec.model_dump_json()

        def start_parent(mode: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", PARENT, spec, str(cache.folder), *worker(mode)]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

        return start_parent

    def test_two_processes_compile_once(
        self, tmp_path: Path, start: Callable[[str], Any], log: Callable[[], list[str]]
    ) -> None:
        first = start("wait")
        with (tmp_path / "started").open() as started:
            assert started.read(2) == "up"
            second = start("good")
            assert "Waiting for another process" in second.stderr.readline()
            (tmp_path / "go").write_text("go")
        said = [process.communicate()[0] for process in (first, second)]
        assert said[0] == said[1] != ""
        assert log() == ["wait"]

    def test_ctrl_c_kills_the_compiler_and_cleans_up(
        self, tmp_path: Path, cache: LibraryCache, start: Callable[[str], Any]
    ) -> None:
        process = start("wait")
        with (tmp_path / "started").open() as started:
            assert started.read(2) == "up"
            process.send_signal(signal.SIGINT)
            # End of file: the compiler, which held the other end, is gone.
            assert started.read() == ""
        assert process.communicate()[0] == "interrupted\n"
        assert leftovers(cache) == []
        assert list(cache.folder.glob("*.*")) == []

    def test_a_killed_process_leaves_nothing_in_the_way(
        self,
        tmp_path: Path,
        cache: LibraryCache,
        start: Callable[[str], Any],
        provider: MakeProvider,
        make_request: MakeRequest,
    ) -> None:
        process = start("wait")
        with (tmp_path / "started").open() as started:
            assert started.read(2) == "up"
            process.kill()
            process.communicate()
            assert started.read() == ""
        assert len(leftovers(cache)) == 1
        spec = ModelSpec(architecture="llama", shape={"hidden_size": 1}, plan=plan("q0f32"))
        assert isinstance(provider().mlc_llm_find_library(make_request(spec=spec)), Found)
        assert leftovers(cache) == []
        assert isinstance(provider().mlc_llm_find_library(make_request()), Found)

    def test_a_process_that_builds_nothing_sweeps_too(
        self, cache: LibraryCache, provider: MakeProvider, make_request: MakeRequest
    ) -> None:
        found = provider().mlc_llm_find_library(make_request())
        (cache.folder / "building" / "dead" / "x").mkdir(parents=True)
        (cache.folder / "building" / "busy" / "x").mkdir(parents=True)
        (cache.folder / f"dead{found.path.suffix}.blake2b").write_text("x")
        (cache.folder / f"busy{found.path.suffix}.blake2b").write_text("x")
        with cache.locked("busy"):
            assert provider().mlc_llm_find_library(make_request()) == found
        assert [path.name for path in (cache.folder / "building").iterdir()] == ["busy"]
        stems = {path.name.partition(".")[0] for path in cache.folder.glob("*.blake2b")}
        assert stems == {"busy", found.path.name.partition(".")[0]}


class TestTrust:
    """A library that another user may have put there, or that is damaged, is not opened."""

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o777])
    def test_a_file_that_others_may_write_is_compiled_again(
        self,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        caplog: pytest.LogCaptureFixture,
        mode: int,
    ) -> None:
        found = provider().mlc_llm_find_library(make_request())
        found.path.chmod(mode)
        assert provider().cached(make_request()) is None
        assert provider().mlc_llm_find_library(make_request()) == found
        assert log() == ["good", "good"]
        assert f"others may write it (its mode is {mode:o})" in caplog.text
        assert provider().cached(make_request()) == found.path

    def test_a_folder_that_others_may_write_is_refused(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
    ) -> None:
        provider().mlc_llm_find_library(make_request())
        for mode in (0o777, 0o1777, 0o770):
            cache.folder.chmod(mode)
            answer = provider().mlc_llm_find_library(make_request())
            assert isinstance(answer, NotFound)
            ((place, reason),) = answer.looked_at
            assert place == str(cache.folder)
            assert f"others may write it (its mode is {mode:o})" in reason
            assert "MLC_LLM_CACHE names another folder" in reason
            assert provider().cached(make_request()) is None
        cache.folder.chmod(0o700)
        assert log() == ["good"]

    def test_what_belongs_to_another_user(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        found = provider().mlc_llm_find_library(make_request())
        status = Path.stat

        def stat(path: Path, **options: Any) -> os.stat_result:
            real = status(path, **options)
            return os.stat_result((*real[:4], 12345, *real[5:])) if path == place else real

        monkeypatch.setattr(Path, "stat", stat)
        place = found.path
        assert (
            cache.problem(place)
            == f"it belongs to the user 12345, not to you ({os.geteuid()}) or root"
        )
        place = cache.folder
        answer = provider().mlc_llm_find_library(make_request())
        assert "belongs to the user 12345" in answer.looked_at[0][1]
        assert log() == ["good"]

    @pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
    def test_what_is_made_is_trusted_whatever_the_umask(
        self,
        cache: LibraryCache,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        umask: int,
    ) -> None:
        before = os.umask(umask)
        try:
            found = provider().mlc_llm_find_library(make_request())
            assert provider().mlc_llm_find_library(make_request()) == found
        finally:
            os.umask(before)
        assert log() == ["good"]
        for folder in (cache.folder, cache.folder.parent):
            assert folder.stat().st_mode & 0o777 == 0o700

    def test_one_wrong_bit_is_noticed(
        self,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """The record is sound, and the code is not: it would crash the process."""
        found = provider().mlc_llm_find_library(make_request())
        whole = found.path.read_bytes()
        found.path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
        assert read_record(found.path).spec == make_request().spec
        assert provider().cached(make_request()) is None
        assert provider().mlc_llm_find_library(make_request()) == found
        assert found.path.read_bytes() == whole
        assert log() == ["good", "good"]
        assert "it is damaged: its digest is another" in caplog.text

    @pytest.mark.parametrize("digest", [None, b"", b"0" * 64, b"\xff" * 1000])
    def test_a_library_of_another_digest_is_compiled_again(
        self,
        provider: MakeProvider,
        make_request: MakeRequest,
        log: Callable[[], list[str]],
        digest: bytes | None,
    ) -> None:
        found = provider().mlc_llm_find_library(make_request())
        (beside,) = found.path.parent.glob("*.blake2b")
        if digest is None:
            beside.unlink()
        else:
            beside.write_bytes(digest)
        assert provider().mlc_llm_find_library(make_request()) == found
        assert provider().mlc_llm_find_library(make_request()) == found
        assert log() == ["good", "good"]


class TestRealCompiler:
    def test_a_small_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path))
        monkeypatch.delenv("MLC_LLM_ALLOW_PREBUILT", raising=False)
        registry = Registry(allowed=[])
        device = registry.device("cpu")
        config = registry.architecture("llama").config(
            {
                "hidden_size": 64,
                "intermediate_size": 96,
                "num_hidden_layers": 1,
                "num_attention_heads": 4,
                "vocab_size": 128,
                "max_position_embeddings": 64,
                "rms_norm_eps": 1e-5,
            }
        )
        spec = ModelSpec(architecture="llama", shape=config.shape(), plan=plan("q0f32"))
        request = LibraryRequest(spec, "cpu", device.target(), tmp_path)
        found = resolve_library(request, registry)
        assert found.provider == "jit"
        record = read_record(found.path)
        assert record.spec == spec
        assert record.cpu_features == device.required_features(device.target())

    def test_its_errors_are_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path))
        for name in ("CC", "CXX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        registry = Registry(allowed=[])
        spec = ModelSpec(architecture="llama", shape={}, plan=plan("q4f32_1"))
        target = registry.device("cpu").target()
        with raises("library-not-found", "C compiler", error=LibraryError):
            resolve_library(LibraryRequest(spec, "cpu", target, tmp_path), registry)
