"""Probing devices that crash, hang, lie or mumble, in real child processes."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.errors import DeviceError, PluginError
from mlc_llm.registry.child import (
    Outcome,
    hidden,
    python_command,
    python_environment,
    run_child,
)
from mlc_llm.registry.probing import probe, probe_all
from mlc_llm.registry.registry import Registry, State
from mlc_llm.testing import raises

Site = Any

PATIENCE = 60.0
"""Seconds; far more than a child needs even on a machine that is busy."""


def answer(site: Site, body: str, *, in_process: bool = False, timeout: float = PATIENCE) -> Any:
    site.install_device("dev", body, in_process=in_process)
    return probe("dev", Registry(), timeout)


class TestInAChild:
    def test_an_available_device(self, site: Site) -> None:
        body = "return Availability((Adapter('GPU ü', 2**33, {'driver': '1.2'}), Adapter('two')))"
        availability = answer(site, body)
        assert availability.available
        first, second = availability.adapters
        assert (first.name, first.memory, dict(first.details)) == (
            "GPU ü",
            2**33,
            {"driver": "1.2"},
        )
        assert (second.name, second.memory, dict(second.details)) == ("two", None, {})

    def test_an_unavailable_device(self, site: Site) -> None:
        availability = answer(site, "return Availability(reason='no driver', remedy='get one')")
        assert not availability.available
        assert (availability.reason, availability.remedy) == ("no driver", "get one")

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("raise OSError('driver is upset')", "probing it raised OSError: driver is upset"),
            ("import sys; sys.exit(3)", "probing it raised SystemExit: 3"),
            ("import os; os._exit(3)", "its probe ended with exit status 3"),
            ("import os; os._exit(0)", "its probe gave an answer that cannot be read"),
            ("import ctypes; ctypes.string_at(0)", "its probe crashed with SIGSEGV"),
            ("import os; os.abort()", "its probe crashed with SIGABRT"),
            ("return {'adapters': []}", "its probe returned a dict, not an Availability"),
            ("return None", "its probe returned a NoneType, not an Availability"),
            ("return Availability((Adapter('x', '8 GB'),))", "memory is '8 GB'"),
            ("return Availability((Adapter(7),))", "an adapter whose name is 7"),
            ("return Availability(('x',))", "its probe returned"),
            ("return Availability()", "it says that it cannot be used, and not why"),
            ("return Availability(reason=7)", "the reason 7"),
        ],
    )
    def test_misbehaviour_becomes_a_reason(self, site: Site, body: str, reason: str) -> None:
        availability = answer(site, body)
        assert not availability.available
        assert reason in availability.reason

    def test_the_last_words_are_shown(self, site: Site) -> None:
        body = "import os; print('libgpu: assertion failed'); os._exit(1)"
        body = body.replace("os._exit", "import sys; sys.stdout.flush(); os._exit")
        assert "it said: libgpu: assertion failed" in answer(site, body).reason

    def test_a_hang_ends_with_the_time(self, site: Site) -> None:
        body = "import threading; threading.Event().wait()"
        availability = answer(site, body, timeout=1.5)
        assert availability.reason.startswith("its probe did not answer in time (1.5 s)")
        assert "MLC_LLM_PROBE_TIMEOUT" in availability.remedy

    def test_what_a_driver_prints_does_not_spoil_the_answer(self, site: Site) -> None:
        body = (
            "import os; print('{'); os.write(1, b'noise on fd 1'); "
            "os.write(2, b'noise on fd 2'); return Availability((Adapter('quiet'),))"
        )
        assert answer(site, body).adapters[0].name == "quiet"

    def test_a_crash_at_exit_does_not_spoil_the_answer(self, site: Site) -> None:
        body = "import atexit, os; atexit.register(os.abort); return Availability((Adapter('x'),))"
        assert answer(site, body).available

    def test_a_grandchild_that_stays_does_not_hold_the_parent(self, site: Site) -> None:
        body = (
            "import subprocess, sys\n"
            "subprocess.Popen([sys.executable, '-c', 'import threading; threading.Event().wait()'])"
            "\nreturn Availability((Adapter('x'),))"
        )
        assert answer(site, body).available

    def test_a_plugin_that_dies_at_import(self, site: Site) -> None:
        # The parent has imported it; only in the child, where it is imported again, does it die.
        extra = "\nimport os\nif os.getpid() != PARENT: os._exit(9)"
        site.install_device(
            "dev", in_process=False, extra=extra.replace("PARENT", str(os.getpid()))
        )
        assert "exit status 9" in probe("dev", Registry(), PATIENCE).reason

    def test_of_two_plugins_the_chosen_one_is_probed(self, site: Site) -> None:
        for distribution in ("one", "two"):
            body = f"return Availability((Adapter({distribution!r}),))"
            site.install_device("dev", body, distribution=distribution, in_process=False)
        registry = Registry(allowed=["two"])
        assert probe("dev", registry, PATIENCE).adapters[0].name == "two"

    def test_files_in_the_current_folder_do_not_stand_in_for_modules(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
        assert answer(site, "return Availability((Adapter('x'),))").available

    def test_a_program_without_an_interpreter(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "")
        assert "cannot be probed" in answer(site, "return None").reason
        monkeypatch.undo()
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with raises("interpreter-missing", repr(sys.executable), error=PluginError):
            python_command("json")


class TestInThisProcess:
    def test_no_child_is_started(self, site: Site) -> None:
        body = "import os; return Availability((Adapter(str(os.getpid())),))"
        assert answer(site, body, in_process=True).adapters[0].name == str(os.getpid())

    def test_an_exception_becomes_a_reason(self, site: Site) -> None:
        assert "raised SystemExit: 1" in answer(site, "raise SystemExit(1)", in_process=True).reason

    def test_ctrl_c_is_the_users(self, site: Site) -> None:
        with pytest.raises(KeyboardInterrupt):
            answer(site, "raise KeyboardInterrupt", in_process=True)


class TestAnswers:
    def test_each_device_is_probed_once_also_by_several_threads(
        self, site: Site, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        body = (
            f"with open({str(log)!r}, 'a') as log: log.write('x')\n"
            "return Availability((Adapter('a'),))"
        )
        site.install_device("dev", body)
        registry = Registry()
        threads = [threading.Thread(target=probe, args=("dev", registry)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        probe("dev", registry)
        assert log.read_text() == "x"
        probe("dev", Registry())
        assert log.read_text() == "xx"

    def test_the_registry_knows_the_state(self, site: Site) -> None:
        site.install_device("yes")
        site.install_device("no", "return Availability(reason='not today')")
        registry = Registry()
        probe("yes", registry)
        probe("no", registry)
        states = {e.name: (e.state, e.reason) for e in registry.entries()}
        assert states["yes"] == (State.AVAILABLE, "")
        assert states["no"] == (State.COMPATIBLE, "not today")

    def test_a_broken_plugin_is_unavailable_and_an_unknown_one_an_error(self, site: Site) -> None:
        site.install("bad", {"devices": {"bad": "nowhere:X"}})
        registry = Registry()
        assert "nowhere" in probe("bad", registry).reason
        with raises("device-unknown", "'baad'", "'bad'"):
            probe("baad", registry)

    def test_all_at_once(self, site: Site) -> None:
        site.install_device("yes")
        site.install("bad", {"devices": {"bad": "nowhere:X"}})
        everything = probe_all(Registry())
        assert everything["yes"].available
        assert everything["cpu"].available
        assert not everything["bad"].available
        assert probe_all(Registry(entry_points=[])) == {}

    @pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
    def test_a_malformed_timeout(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PROBE_TIMEOUT", value)
        site.install_device("dev", in_process=False)
        with raises("config-invalid", "MLC_LLM_PROBE_TIMEOUT", repr(value), error=DeviceError):
            probe("dev", Registry())

    def test_the_timeout_of_the_environment(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PROBE_TIMEOUT", "0.01")
        site.install_device("dev", in_process=False)
        assert "(0.01 s)" in probe("dev", Registry()).reason


class TestChild:
    def test_how_it_ended(self) -> None:
        assert Outcome(None, "", "").ending() == "did not answer in time"
        assert Outcome(-11, "", "").ending() == "crashed with SIGSEGV"
        assert Outcome(-1000, "", "").ending() == "was killed by signal 1000"
        assert Outcome(0xC0000005, "", "").ending() == "ended with exit status 0xc0000005"
        assert Outcome(1, "", " \nlast\n\n").last_words() == "last"

    def test_only_the_end_of_a_long_output_is_kept(self) -> None:
        code = "print('x' * 3_000_000); print('y' * 100_000); print('end')"
        outcome = run_child([sys.executable, "-c", code], os.environ)
        assert outcome.stdout.endswith("x\n" + "y" * 100_000 + "\nend\n")
        assert len(outcome.stdout) < 2_000_000
        assert len(Outcome(1, "", "x" * 9000).last_words()) == 2000

    def test_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOES", "1")
        monkeypatch.setattr(sys, "path", ["", "/a", f"/b{os.pathsep}c"])
        environment = python_environment({"GOES": None, "COMES": "2"})
        assert "GOES" not in environment
        assert environment["COMES"] == "2"
        assert environment["PYTHONPATH"] == os.pathsep.join([str(Path.cwd()), "/a"])

    def test_what_python_passes_over_in_its_path_does_no_harm(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd: list[Any] = [Path("/p"), b"/b", None, 3, "/n\0l", "/a"]
        monkeypatch.setattr(sys, "path", odd)
        assert python_environment({})["PYTHONPATH"] == "/a"

    def test_a_current_folder_that_was_deleted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        monkeypatch.setattr(sys, "path", ["", "/a"])
        assert python_environment({})["PYTHONPATH"] == "/a"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PYTHONINSPECT", "1"),
            ("PYTHONWARNINGS", "error"),
            ("PYTHONVERBOSE", "1"),
            ("PYTHONPROFILEIMPORTTIME", "1"),
            ("PYTHONIOENCODING", "utf-16"),
            ("PYTHONDEVMODE", "1"),
        ],
    )
    def test_settings_of_pythons_own_do_not_reach_it(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)
        code = "import sys, warnings; warnings.warn('w', Warning); print('é'); sys.exit(3)"
        outcome = run_child([sys.executable, "-c", code], python_environment({}))
        assert (outcome.returncode, outcome.stdout) == (3, "é\n")
        assert outcome.last_words() == "<string>:1: Warning: w"

    @pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="a file in memory is Linux's")
    def test_what_it_says_needs_no_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
        assert run_child(["echo", "hi"], os.environ).stdout == "hi\n"

    @pytest.mark.skipif(sys.platform == "win32", reason="named pipes are POSIX's")
    def test_it_ends_when_its_parent_is_killed(self, tmp_path: Path) -> None:
        fifo = tmp_path / "alive"
        os.mkfifo(fifo)
        child = (
            "import threading\nfrom mlc_llm.registry.child import exit_with_parent\n"
            f"exit_with_parent()\nheld = open({str(fifo)!r}, 'w'); held.write('up'); held.flush()\n"
            "threading.Event().wait()"
        )
        parent = (
            "import os, sys\nfrom mlc_llm.registry.child import run_child\n"
            f"run_child([sys.executable, '-c', {child!r}], os.environ)"
        )
        process = subprocess.Popen([sys.executable, "-c", parent])
        with fifo.open() as reader:
            assert reader.read(2) == "up"
            process.send_signal(signal.SIGKILL)
            process.wait()
            # End of file: the child, which held the other end, is gone.
            assert reader.read() == ""

    def test_the_module_is_a_command(self, site: Site) -> None:
        site.install_device("dev")
        command = python_command("mlc_llm.registry.probing", "dev")
        done = subprocess.run(command, env=python_environment({}), capture_output=True, check=True)
        assert json.loads(done.stdout)["adapters"][0]["name"] == "fake"
        unknown = python_command("mlc_llm.registry.probing", "nope")
        done = subprocess.run(unknown, env=python_environment({}), capture_output=True, check=True)
        assert "Unknown device 'nope'" in json.loads(done.stdout)["reason"]


class TestHidden:
    def test_a_hidden_module_cannot_be_imported_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "heavy_module.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path)
        with hidden("heavy_module"), pytest.raises(ImportError):
            importlib.import_module("heavy_module")
        module = importlib.import_module("heavy_module")
        monkeypatch.delitem(sys.modules, "heavy_module")
        assert module.__file__ == str(tmp_path / "heavy_module.py")

    def test_one_that_is_imported_stays(self) -> None:
        with hidden("json"):
            assert sys.modules["json"] is json
