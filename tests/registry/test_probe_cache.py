"""Answers that are kept between processes: when they count, and when the device is asked again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.plugin.device import Availability
from mlc_llm.plugin.fingerprint import describe_files, library_files
from mlc_llm.registry import probe_cache
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.probing import probe, probe_all
from mlc_llm.registry.registry import Registry, State
from mlc_llm.testing import raises

Site = Any

AVAILABLE = "return Availability((Adapter('card', 2**30, {'driver': '1'}),))"
REFUSING = "return Availability(reason='it is asleep', remedy='wake it')"
FINGERPRINT = """
from mlc_llm.plugin.fingerprint import describe_files
FakeDevice.fingerprint = lambda self: "driver\\n" + describe_files([{driver!r}])
"""


class Lab:
    """A fake device that counts its probes, with a driver file that can change."""

    def __init__(self, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.cache = site, folder / "cache"
        self.driver, self._log = folder / "driver.so", folder / "log"
        self.driver.write_text("1")
        monkeypatch.setenv("MLC_LLM_CACHE", str(self.cache))

    def install(self, body: str = AVAILABLE, extra: str = "") -> None:
        body = f"with open({str(self._log)!r}, 'a') as log: log.write('x')\n{body}"
        extra = FINGERPRINT.format(driver=str(self.driver)) + extra
        self.site.install_device("dev", body, in_process=False, priority=900, extra=extra)

    def ask(self, **options: Any) -> Availability:
        """Ask as a process does that has just begun."""
        return probe("dev", Registry(), **options)

    @property
    def probes(self) -> int:
        return len(self._log.read_text()) if self._log.exists() else 0

    @property
    def kept(self) -> Path:
        (path,) = (self.cache / "probes").iterdir()
        return path


@pytest.fixture
def lab(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(site, tmp_path, monkeypatch)


class TestUnchanged:
    def test_no_child_is_started(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        lab.install()
        first = lab.ask()
        started: list[Any] = []
        monkeypatch.setattr("mlc_llm.registry.probing.run_child", lambda *a: started.append(a))
        monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
        registry = Registry()
        assert probe("dev", registry) == first
        assert first.available
        assert registry.entry("device", "dev").state is State.AVAILABLE
        assert (started, lab.probes) == ([], 1)

    def test_a_refusal_is_kept_for_a_minute(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lab.install(REFUSING)
        assert lab.ask() == lab.ask()
        assert lab.probes == 1
        now = probe_cache.time.time()
        monkeypatch.setattr("mlc_llm.registry.probe_cache.time.time", lambda: now + 61)
        assert lab.ask().reason == "it is asleep"
        assert lab.probes == 2

    def test_a_clock_that_was_set_back(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        lab.install()
        lab.ask()
        monkeypatch.setattr("mlc_llm.registry.probe_cache.time.time", lambda: 1000.0)
        lab.ask()
        assert lab.probes == 2

    def test_a_crash_is_kept_too(self, lab: Lab) -> None:
        lab.install("import os; os.abort()")
        assert "SIGABRT" in lab.ask().reason
        assert lab.ask() == lab.ask()
        assert lab.probes == 1


class TestChanged:
    def test_the_driver(self, lab: Lab) -> None:
        lab.install()
        lab.ask()
        lab.driver.write_text("version 2")
        lab.ask()
        assert lab.probes == 2
        lab.driver.unlink()
        lab.ask()
        assert lab.probes == 3

    @pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "VK_ICD_FILENAMES"])
    def test_the_environment(self, lab: Lab, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        lab.install()
        lab.ask()
        monkeypatch.setenv(name, "1")
        lab.ask()
        assert lab.probes == 2

    def test_the_plugin(self, lab: Lab) -> None:
        lab.install()
        lab.ask()
        (info,) = lab.site.folder.glob("*.dist-info")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-dev\nVersion: 2.0\n")
        lab.ask()
        assert lab.probes == 2
        (module,) = lab.site.folder.glob("*.py")
        module.write_text(module.read_text() + "\n# changed\n")
        lab.ask()
        assert lab.probes == 3

    @pytest.mark.parametrize("version", ["__version__", "tvm_version"])
    def test_the_core_and_tvm(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch, version: str
    ) -> None:
        lab.install()
        lab.ask()
        changed: Any = "9.9" if version == "__version__" else lambda: "9.9"
        monkeypatch.setattr(f"mlc_llm.registry.probe_cache.{version}", changed)
        lab.ask()
        assert lab.probes == 2


class TestNotBelieved:
    def test_a_fresh_answer_replaces_the_kept_one(self, lab: Lab) -> None:
        lab.install()
        lab.ask()
        lab.ask(fresh=True)
        assert lab.probes == 2
        registry = Registry(allowed=["fake-dev"])
        probe_all(registry)
        probe_all(registry, fresh=True)
        probe_all(registry, fresh=True)
        assert lab.probes == 3

    def test_a_named_device_is_never_refused_by_a_kept_answer(self, lab: Lab) -> None:
        flag = lab.driver.with_name("awake")
        lab.install(f"import os\nif not os.path.exists({str(flag)!r}): {REFUSING}\n{AVAILABLE}")
        assert choose_device("auto", Registry()).device.name != "dev"
        flag.touch()
        assert choose_device("auto", Registry()).device.name != "dev"
        assert choose_device("dev", Registry()).adapter.name == "card"
        assert choose_device("auto", Registry()).device.name == "dev"
        assert lab.probes == 2

    def test_asking_anew_happens_once(self, lab: Lab) -> None:
        lab.install(REFUSING)
        registry = Registry()
        for _ in range(2):
            with raises("device-unavailable", "asleep"):
                choose_device("dev", registry)
        assert lab.probes == 1

    @pytest.mark.parametrize(
        "extra",
        [
            "FakeDevice.fingerprint = lambda self: ''",
            "FakeDevice.fingerprint = lambda self: 7",
            "FakeDevice.fingerprint = lambda self: 1 / 0",
            "del FakeDevice.fingerprint",
        ],
    )
    def test_without_a_fingerprint_nothing_is_kept(self, lab: Lab, extra: str) -> None:
        lab.install(extra="\n" + extra)
        assert lab.ask() == lab.ask()
        assert lab.probes == 2
        assert not lab.cache.exists()


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"\xff\xfe",
            b"[]",
            b"7",
            b'{"format": 1}',
            b"[" * 100_000,
        ],
    )
    def test_a_damaged_file_is_replaced(self, lab: Lab, damage: bytes) -> None:
        lab.install()
        first = lab.ask()
        lab.kept.write_bytes(damage)
        assert lab.ask() == first
        assert lab.ask() == first
        assert lab.probes == 2

    @pytest.mark.parametrize(
        "answer", [None, 7, {}, {"adapters": 3}, {"adapters": [{}]}, {"adapters": [7]}]
    )
    def test_an_answer_of_another_form(self, lab: Lab, answer: Any) -> None:
        lab.install()
        first = lab.ask()
        kept = json.loads(lab.kept.read_text())
        lab.kept.write_text(json.dumps({**kept, "answer": answer}))
        assert lab.ask() == first
        assert lab.probes == 2

    def test_a_folder_that_cannot_be_written(self, lab: Lab) -> None:
        lab.install()
        lab.cache.write_text("a file")
        assert lab.ask().available
        assert lab.ask().available
        assert lab.probes == 2

    def test_nothing_else_is_left_behind(self, lab: Lab) -> None:
        lab.install()
        lab.ask()
        lab.driver.write_text("other")
        lab.ask()
        assert lab.kept.suffix == ".json"


class TestFingerprint:
    def test_what_is_there_counts(self, tmp_path: Path) -> None:
        file = tmp_path / "lib.so"
        absent = describe_files([file])
        file.write_text("one")
        os.utime(file, ns=(1, 1))
        there = describe_files([file])
        os.utime(file, ns=(2, 2))
        touched = describe_files([file])
        file.write_text("longer")
        os.utime(file, ns=(2, 2))
        assert absent == ""
        assert len({absent, there, touched, describe_files([file])}) == 4
        assert describe_files([file, tmp_path]) == describe_files([tmp_path, file])

    @pytest.mark.skipif(not Path("/proc/version").exists(), reason="Linux's files")
    def test_of_files_without_size_the_content_counts(self) -> None:
        assert "Linux" in describe_files(["/proc/version"])
        assert "device" in describe_files([os.devnull])

    def test_the_users_folders_come_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LD_LIBRARY_PATH", f"/mine{os.pathsep}")
        files = [str(path) for path in library_files("libx.so.1")]
        assert files[1:3] == ["/mine/libx.so.1", "/usr/lib/libx.so.1"]
