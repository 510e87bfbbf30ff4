"""``mlc_llm doctor``: each check on what it is to find, and the command as users run it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.cli.doctor import hub, model, plugins, python, storage, toolchain
from mlc_llm.cli.doctor.finding import Check, Finding, Status, run_checks
from mlc_llm.errors import ConfigError
from mlc_llm.library.cache import LibraryCache
from mlc_llm.plugin import Adapter, Availability
from mlc_llm.registry.child import Outcome
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.runtime.threads import thread_count

CLI = Callable[..., Any]

NPU = """
import os
from mlc_llm.plugin import Availability, Device, Unavailable

def refuse(*words):
    raise Unavailable(*words)

class NPU(Device):
    name = "npu"

    def probe(self):
        return Availability(reason="it is a fake")

    def trials(self):
        return {
            "driver": lambda: "version 7",
            "card": lambda: refuse("there is no card"),
            "firmware": lambda: refuse("it is old", "Update it."),
            "fault": lambda: str(1 // 0),
            "crash": lambda: os._exit(3),
            "never": lambda: "not reached",
        }

    def open(self, index): ...
    def target(self, index=0): ...
    def codegen(self, target, opt): ...
"""


def publish(cache: LibraryCache, library: Path, key: str) -> Path:
    """Put a copy of a library into a cache."""
    with cache.locked(key), cache.workspace(key) as folder:
        return cache.publish(Path(shutil.copy(library, folder)), key)


def by_name(findings: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_every_complaint_has_a_remedy(mlc_llm: CLI, tmp_path: Path) -> None:
    variables = {"TVM_NUM_THREADS": "many", "CXX": sys.executable, "MLC_LLM_DEVICE": "gpu"}
    result = mlc_llm("doctor", tmp_path, "--json", variables=variables)
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert not report["ok"]
    broken = {(f["area"], f["name"]) for f in report["findings"] if f["status"] == "broken"}
    assert {("threads", "cpu"), ("compiler", sys.executable), ("devices", "auto")} <= broken
    assert ("model", "folder") in broken
    for finding in report["findings"]:
        assert finding["detail"]
        assert finding["remedy"] or finding["status"] in ("ok", "absent"), finding


def test_the_table_of_a_sound_installation(mlc_llm: CLI) -> None:
    result = mlc_llm("doctor", variables={"MLC_LLM_PLUGINS": "none"})
    assert result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["python", "interpreter", "ok"] in [line[:3] for line in lines]
    assert ["tvm", "compiler", "ok"] in [line[:3] for line in lines]
    assert ["tvm", "runtime", "ok"] in [line[:3] for line in lines]
    assert ["devices", "auto", "ok", "cpu:0"] in lines
    assert lines[-1] == ["Nothing", "is", "broken."]
    assert result.returncode == 0


class TestRunning:
    def test_a_check_that_fails_is_a_finding_and_the_others_run(self) -> None:
        fine = Finding("a", "fine", Status.OK)

        def crashes() -> Iterator[Finding]:
            yield fine
            raise ZeroDivisionError("by zero")

        def refuses() -> Iterator[Finding]:
            raise ConfigError("The value is wrong.")

        findings = run_checks(
            [Check("a", crashes), Check("b", refuses), Check("c", lambda: [fine])]
        )
        assert [f.status for f in findings] == ["ok", "broken", "broken", "ok"]
        assert "itself failed: ZeroDivisionError: by zero" in findings[1].detail
        assert findings[2].detail == "The value is wrong."


class TestPython:
    def test_this_one(self) -> None:
        (finding,) = python.check_python()
        assert finding.status is Status.OK

    def test_an_old_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(python, "OLDEST_PYTHON", (4, 0))
        (finding,) = python.check_python()
        assert finding.status is Status.BROKEN
        assert "CPython 4.0" in finding.remedy

    def test_a_program_without_an_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert by_name(python.check_python())["child processes"].status is Status.BROKEN

    def test_the_pinned_versions(self) -> None:
        found = by_name(python.check_versions())
        assert {"mlc-llm", "apache-tvm", "apache-tvm-ffi"} <= found.keys()
        assert {finding.status for finding in found.values()} == {Status.OK}

    def test_another_version_and_none(self) -> None:
        other = python.check_version("click", "0.1")
        assert other.status is Status.BROKEN
        assert "needs 0.1" in other.detail
        assert "pip install click==0.1" in other.remedy
        assert python.check_version("no-such-distribution", "1").detail == "it is not installed"

    def test_a_source_tree_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(python, "CORE", "no-such-distribution")
        assert [f.status for f in python.check_versions()] == [Status.WARNING]

    @pytest.mark.parametrize(
        ("value", "status"),
        [(None, "ok"), ("1", "ok"), ("4096", "warning"), ("0", "broken"), ("-1", "broken")],
    )
    def test_threads(self, monkeypatch: pytest.MonkeyPatch, value: str | None, status: str) -> None:
        for name in ("TVM_NUM_THREADS", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", value)
        (finding,) = python.check_threads()
        assert finding.status == status

    def test_a_models_own_threads_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TVM_NUM_THREADS", "none")
        few, many = (
            python.threads_finding("model", "threads", thread_count(count)) for count in (1, 1024)
        )
        assert (few.status, few.detail.split(";")[0]) == (Status.OK, "num_threads=1")
        assert many.status is Status.WARNING
        assert "num_threads=1024" in many.detail


class TestToolchain:
    @pytest.mark.parametrize(
        ("outcome", "detail"),
        [
            (Outcome(-11, "", "boom"), "importing it crashed with SIGSEGV; it said: boom"),
            (Outcome(None, "", ""), "did not answer in time"),
            (Outcome(0, '{"error": "OSError: no libz"}', ""), "OSError: no libz"),
            (Outcome(0, "[]", ""), "ended with exit status 0"),
            (Outcome(0, '{"error": "", "tvm": "1", "ffi": "2", "llvm": false}', ""), "LLVM"),
        ],
    )
    def test_a_tvm_that_does_not_work(self, outcome: Outcome, detail: str) -> None:
        finding = toolchain.tvm_finding("compiler", outcome)
        assert finding.status is Status.BROKEN
        assert detail in finding.detail
        assert "--force-reinstall" in finding.remedy

    def test_a_runtime_needs_no_llvm(self) -> None:
        said = 'noise\n{"error": "", "tvm": "1", "ffi": "2", "llvm": false}\n'
        assert toolchain.tvm_finding("runtime", Outcome(0, said, "")).status is Status.OK

    def test_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        for name in ("CC", "CXX"):
            monkeypatch.delenv(name, raising=False)
        (finding,) = toolchain.check_compiler()
        assert finding.status is Status.BROKEN
        assert finding.remedy.startswith("Install")

    @pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            ("echo ld: cannot find -lc >&2; exit 1", "it said: ld: cannot find -lc"),
            ("exit 0", "it ended with exit status 0"),
            ('while [ "$1" != -o ]; do shift; done; echo x > "$2"', "cannot be loaded"),
        ],
    )
    def test_a_compiler_that_does_not_link(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, problem: str
    ) -> None:
        compiler = tmp_path / "cc"
        compiler.write_text(f"#!/bin/sh\n{script}\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        (finding,) = toolchain.check_compiler()
        assert finding.status is Status.BROKEN
        assert problem in finding.detail
        assert "$CXX" in finding.remedy

    def test_a_compiler_that_cannot_be_started(self, tmp_path: Path) -> None:
        assert "cannot be started" in str(toolchain.link_problem(str(tmp_path / "absent")))

    def test_no_place_for_a_trial(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
        assert "cannot be tried" in str(toolchain.link_problem("cc"))


class TestPlugins:
    def test_a_broken_one(self) -> None:
        entry_points = [
            EntryPoint("bad", "no_such_module:X", "mlc_llm.devices"),
            EntryPoint("cpu", "mlc_llm.device.cpu:CPU", "mlc_llm.devices"),
        ]
        found = by_name(plugins.check_plugins(Registry(entry_points)))
        assert found["device bad"].status is Status.BROKEN
        assert "no_such_module" in found["device bad"].detail
        assert "uninstall" in found["device bad"].remedy
        assert any(f.detail == "cpu" and f.status is Status.OK for f in found.values())

    def test_of_many_the_first_are_named(self) -> None:
        registry = Registry(allowed=[])
        names = sorted(registry.names("conversation template"))
        details = [f.detail for f in plugins.check_plugins(registry) if f.status is Status.OK]
        assert f"{', '.join(names[:12])} and {len(names) - 12} more" in details

    def test_one_that_is_left_out_is_not_broken(self) -> None:
        entry_points = [EntryPoint("out", "no_such_module:X", "mlc_llm.devices")]
        findings = list(plugins.check_plugins(Registry(entry_points, allowed=[])))
        assert [f.status for f in findings] == [Status.ABSENT]

    @pytest.mark.parametrize(
        ("availability", "status"),
        [
            (Availability((Adapter("card"),)), "ok"),
            (Availability(reason="there is no card"), "absent"),
            (Availability(reason="the driver is old", remedy="Update it."), "broken"),
            (Availability((Adapter("painter", software=True),), remedy="get one"), "warning"),
        ],
    )
    def test_devices(self, availability: Availability, status: str) -> None:
        assert plugins.device_finding("gpu", availability).status == status

    def test_the_steps_of_a_device(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """One that kills its process takes only itself and the later ones down."""
        info = tmp_path / "npu-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: npu\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[mlc_llm.devices]\nnpu = npu_plugin:NPU\n")
        (tmp_path / "npu_plugin.py").write_text(NPU)
        monkeypatch.syspath_prepend(tmp_path)
        entry_points = [EntryPoint("npu", "npu_plugin:NPU", "mlc_llm.devices")]
        found = [*plugins.trial_findings("npu", Registry(entry_points))]
        assert [(f.area, f.name, f.status) for f in found] == [
            ("npu", "driver", "ok"),
            ("npu", "card", "absent"),
            ("npu", "firmware", "broken"),
            ("npu", "fault", "broken"),
            ("npu", "crash", "broken"),
        ]
        assert [f.detail for f in found[:3]] == ["version 7", "there is no card", "it is old"]
        assert found[2].remedy == "Update it."
        assert "ZeroDivisionError" in found[3].detail
        assert "exit status 3" in found[4].detail
        assert found[4].remedy

    def test_no_device_at_all(self) -> None:
        (finding,) = plugins.check_devices(Registry(entry_points=[]))
        assert (finding.name, finding.status) == ("auto", Status.BROKEN)


class TestStorage:
    def test_what_is_not_there_yet_is_no_complaint(self, tmp_path: Path) -> None:
        cache = LibraryCache(tmp_path / "a" / "b")
        (finding,) = storage.check_library_cache(default_registry(), cache)
        assert finding.status is Status.OK
        assert not cache.folder.exists()

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("")
        finding = storage.writable_finding("x", blocked / "folder", "VARIABLE")
        assert finding.status is Status.BROKEN
        assert "VARIABLE" in finding.remedy
        if sys.platform == "linux":
            # Not even the superuser makes files there.
            kernels = storage.writable_finding("x", Path("/proc/self"), "VARIABLE")
            assert kernels.status is Status.BROKEN

    def test_libraries_that_serve_are_stale_or_unreadable(
        self, tmp_path: Path, make_checkpoint: Any, make_model: Any, make_library: Any
    ) -> None:
        built = make_library(make_model(make_checkpoint(), "q0f32"))
        cache = LibraryCache(tmp_path)
        shutil.copy(built, cache.path("llama-of-another-time"))
        cache.path("torn").write_bytes(b"")
        registry = default_registry()
        found = by_name(storage.check_library_cache(registry, cache))
        assert found["contents"].detail.startswith("libraries: 2, ")
        assert found["stale"].status is Status.WARNING
        assert "1 of them" in found["stale"].detail
        assert found[cache.path("torn").name].status is Status.WARNING
        gone = by_name(storage.check_library_cache(Registry(entry_points=[]), cache))
        assert "'cpu' is not installed" in gone["stale"].detail

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX's modes")
    def test_a_folder_that_others_may_write(self, tmp_path: Path) -> None:
        cache = LibraryCache(tmp_path / "libraries")
        cache.folder.mkdir()
        cache.folder.chmod(0o777)
        found = by_name(storage.check_library_cache(default_registry(), cache))
        assert found["owner"].status is Status.BROKEN
        assert "others may write it (its mode is 777)" in found["owner"].detail
        assert "chmod 700" in found["owner"].remedy
        cache.folder.chmod(0o755)
        assert "owner" not in by_name(storage.check_library_cache(default_registry(), cache))

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX's modes")
    @pytest.mark.parametrize(("mode", "finding"), [(0o755, "libraries"), (0o711, "contents")])
    def test_a_folder_of_another_user(
        self, open_folder: Path, ordinary_user: Any, mode: int, finding: str
    ) -> None:
        cache = LibraryCache(open_folder / "libraries")
        cache.folder.mkdir()
        cache.folder.chmod(mode if os.geteuid() == 0 else mode & 0o511)
        mode = cache.folder.stat().st_mode & 0o777
        with ordinary_user():
            found = by_name(storage.check_library_cache(default_registry(), cache))
            me = os.geteuid()
        cache.folder.chmod(0o700)
        assert found[finding].status is Status.BROKEN
        whose = f"belongs to the user {os.geteuid()}, you are {me}; its mode is {mode:o}"
        assert whose in found[finding].detail
        assert "MLC_LLM_CACHE" in found[finding].remedy

    def test_little_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = {"ONE": tmp_path / "absent", "TWO": tmp_path}
        usage = types.SimpleNamespace(free=storage.LITTLE_SPACE)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        (finding,) = storage.check_disk(folders)
        assert finding.status is Status.OK
        usage.free -= 1
        (finding,) = storage.check_disk(folders)
        assert finding.status is Status.WARNING
        assert "ONE" in finding.remedy
        usage.free = storage.NO_SPACE - 1
        (finding,) = storage.check_disk(folders)
        assert finding.status is Status.BROKEN


class TestHub:
    def test_offline(self) -> None:
        found = by_name(hub.check_hub(online=True))
        assert found["client"].status is Status.OK
        assert found["folder"].status is Status.OK
        # The tests run in offline mode.
        assert found["network"].status is Status.ABSENT

    def test_the_network_is_asked_only_on_demand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = Finding("hub", "network", Status.OK)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "network_finding", lambda endpoint: asked)
        assert by_name(hub.check_hub(online=False))["network"].status is Status.ABSENT
        assert by_name(hub.check_hub(online=True))["network"] is asked

    def test_a_hub_that_does_not_answer(self) -> None:
        finding = hub.network_finding("http://127.0.0.1:9")
        assert finding.status is Status.BROKEN
        assert "HTTPS_PROXY" in finding.remedy

    def test_no_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        (finding,) = hub.check_hub(online=False)
        assert "pip install huggingface_hub" in finding.remedy


class TestModel:
    @pytest.fixture
    def folder(self, make_checkpoint: Any, make_model: Any, tmp_path: Path) -> Path:
        """A model folder that may be spoilt."""
        made = make_model(make_checkpoint(), "q0f32")
        return Path(shutil.copytree(made, tmp_path / "model"))

    def test_a_sound_one(self, folder: Path) -> None:
        found = by_name(model.check_model(str(folder), default_registry(), False))
        assert {name: f.status for name, f in found.items() if name != "library"} == {
            "folder": Status.OK,
            "checksums": Status.OK,
            "tokenizer": Status.OK,
            "template": Status.OK,
        }
        assert found["library"].status in (Status.OK, Status.ABSENT)

    def test_a_damaged_shard(self, folder: Path) -> None:
        shard = folder / "params_shard_0.bin"
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        found = by_name(model.check_model(str(folder), default_registry(), False))
        assert found["checksums"].status is Status.BROKEN
        assert "params_shard_0.bin" in found["checksums"].detail
        assert found["tokenizer"].status is Status.OK

    @pytest.mark.parametrize(
        ("change", "name", "detail"),
        [
            ({"conv_template": "lama-2"}, "template", "Did you mean 'llama-2'"),
            ({"conv_template": {"roles": {}}}, "template", "not a valid"),
            ({"vocab_size": 5}, "template", "which the model does not have"),
            ({"model_type": "lama"}, "library", "Did you mean 'llama'"),
        ],
    )
    def test_a_wrong_configuration(
        self, folder: Path, change: dict[str, Any], name: str, detail: str
    ) -> None:
        file = folder / "mlc-chat-config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
        found = by_name(model.check_model(str(folder), default_registry(), False))
        assert found[name].status is Status.BROKEN
        assert detail in found[name].detail
        assert found[name].remedy

    def test_a_token_that_the_model_lacks(self, folder: Path) -> None:
        file = folder / "mlc-chat-config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": 258}))
        found = by_name(model.check_model(str(folder), default_registry(), False))
        assert found["tokenizer"].status is Status.WARNING
        assert "258" in found["tokenizer"].detail
        assert found["template"].status is Status.OK

    def test_no_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        found = by_name(model.check_model(str(folder), default_registry(), False))
        assert found["tokenizer"].status is Status.BROKEN

    def test_a_repository_that_is_not_in_the_cache(self) -> None:
        (finding,) = model.check_model("HF://org/name", default_registry(), False)
        assert finding.detail.startswith("HF://org/name is not, or not wholly, in the cache")
        assert finding.remedy == "Fetch it: mlc_llm pull HF://org/name"

    def test_its_library(
        self, folder: Path, make_library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mlc_llm.library.jit import JITProvider
        from mlc_llm.plugin import LibraryRequest, ModelSpec
        from mlc_llm.quantization import folder_plan
        from mlc_llm.weights.folder import ModelFolder

        monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MLC_LLM_DEVICE", "cpu")
        registry = default_registry()
        before = by_name(model.check_model(str(folder), registry, False))["library"]
        assert before.status is Status.ABSENT
        with ModelFolder.open(folder) as opened:
            spec = ModelSpec.of(
                opened.config, registry.architecture("llama"), folder_plan(opened.config)
            )
        target = registry.device("cpu").target()
        key = JITProvider().key(LibraryRequest(spec, "cpu", target, folder))
        cached = publish(LibraryCache(), make_library(folder), key)
        after = by_name(model.check_model(str(folder), registry, False))["library"]
        assert (after.status, after.detail) == (Status.OK, str(cached))
        served = by_name(storage.check_library_cache(registry))
        assert "stale" not in served
        assert cached.name not in served
        cached.chmod(0o666)
        served = by_name(storage.check_library_cache(registry))
        assert served[cached.name].status is Status.WARNING
        assert "compiled again: others may write it" in served[cached.name].detail
        cached.chmod(0o600)
        cached.write_bytes(cached.read_bytes() + b"x")
        served = by_name(storage.check_library_cache(registry))
        assert "its digest is another" in served[cached.name].detail
        after = by_name(model.check_model(str(folder), registry, False))["library"]
        assert after.status is Status.ABSENT
