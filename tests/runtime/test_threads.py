"""How many threads TVM gets, and that it needs only its runtime."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlc_llm.runtime import threads

from . import toy_library


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUM_THREADS", "THREAD_POOL_SPIN_COUNT", "BIND_THREADS"):
        # Set first, so that what the test sets is taken back.
        monkeypatch.setenv(f"TVM_{name}", "")
        monkeypatch.delenv(f"TVM_{name}")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.usefixtures("clean")
def test_variables_are_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.configure_threads()
    assert os.environ["TVM_NUM_THREADS"] == str(threads.physical_cores())
    assert os.environ["TVM_THREAD_POOL_SPIN_COUNT"] == "1000"
    monkeypatch.setenv("TVM_NUM_THREADS", "7")
    monkeypatch.setenv("TVM_THREAD_POOL_SPIN_COUNT", "8")
    threads.configure_threads()
    assert os.environ["TVM_NUM_THREADS"] == "7"
    assert os.environ["TVM_THREAD_POOL_SPIN_COUNT"] == "8"


@pytest.mark.usefixtures("clean")
def test_the_users_omp_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads.configure_threads()
    assert "TVM_NUM_THREADS" not in os.environ


@pytest.mark.usefixtures("clean")
def test_threads_are_bound_only_if_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.configure_threads()
    assert os.environ["TVM_BIND_THREADS"] == "0"
    monkeypatch.setenv("TVM_BIND_THREADS", "1")
    threads.configure_threads()
    assert os.environ["TVM_BIND_THREADS"] == "1"


@pytest.mark.usefixtures("clean")
def test_the_first_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = threads.physical_cores()
    assert threads.thread_count() == threads.ThreadCount(cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads.thread_count() == threads.ThreadCount(5, "OMP_NUM_THREADS")
    monkeypatch.setenv("TVM_NUM_THREADS", "7")
    assert threads.thread_count() == threads.ThreadCount(7, "TVM_NUM_THREADS")
    assert threads.thread_count(3) == threads.ThreadCount(3, "num_threads")
    for wrong in ("", "none", "0", "-2"):
        monkeypatch.setenv("TVM_NUM_THREADS", wrong)
        assert threads.thread_count() == threads.ThreadCount(1, "TVM_NUM_THREADS")


def test_siblings_and_quotas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_CPUS", tmp_path)
    outer, inner = tmp_path / "groups", tmp_path / "groups" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.setattr(threads, "own_groups", lambda: [inner, outer])
    monkeypatch.setattr(threads, "_usable_cpus", lambda: set(range(8)))
    assert threads.physical_cores() == 8
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    assert threads.physical_cores() == 4
    for group in (inner, outer):  # The limits of the groups around it count, too.
        for text, cores in (("1000 100000", 1), ("250000 100000", 2), ("x", 4), ("max 100000", 4)):
            (group / "cpu.max").write_text(text)
            assert threads.physical_cores() == cores


WORKERS = """
import json, os, sys
from pathlib import Path
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.engine import Engine
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.weights.folder import ModelFolder

def tasks():
    return len(os.listdir("/proc/self/task"))

def load(count):
    import tvm
    window = ContextWindow(96, 32)
    model = LoadedModel.load(Path(sys.argv[1]), folder, tvm.cpu(), window, threads=count)
    model.feed([1, 2, 3])
    return tvm.get_global_func("runtime.NumThreads")()

folder = ModelFolder.open(sys.argv[2])
found = []
for count in json.loads(sys.argv[3]):
    engine = Engine()
    engine.call(lambda stop: __import__("tvm"))
    before = tasks()
    found.append([engine.call(lambda stop: load(count)), tasks() - before])
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of threads")
def test_models_of_one_process_have_their_own_numbers(tmp_path: Path, toy_path: Path) -> None:
    """The calling thread computes as well, so there is one worker less than threads."""
    folder = toy_library.write_folder(tmp_path / "model")
    counts = [3, 1, None, 2]
    result = subprocess.run(
        [sys.executable, "-c", WORKERS, str(toy_path), str(folder), json.dumps(counts)],
        capture_output=True,
        text=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1", "TVM_NUM_THREADS": "4"},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    used, workers = zip(*json.loads(result.stdout), strict=True)
    assert workers == (2, 0, 3, 1)
    # Without a setting, TVM uses no more of its workers than the machine has CPUs.
    assert (used[0], used[1], used[3]) == (3, 1, 2)


def test_more_threads_than_cpus_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(threads, "_usable_cpus", lambda: {0})
    for count in (None, 1, 2):
        with caplog.at_level(logging.WARNING, "mlc_llm"):
            thread = threading.Thread(target=threads.use_threads, args=(count,))
            thread.start()
            thread.join()
    assert [record.args for record in caplog.records] == [(2, 1)]


def test_only_tvms_runtime_is_needed(tmp_path: Path, toy_path: Path) -> None:
    folder = toy_library.write_folder(tmp_path / "model")
    program = f"""
import sys
from pathlib import Path
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.engine import Engine
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.weights.folder import ModelFolder
assert "tvm" not in sys.modules
def run(stop):
    import tvm
    folder, window = ModelFolder.open({str(folder)!r}), ContextWindow(96, 32)
    model = LoadedModel.load(Path({str(toy_path)!r}), folder, tvm.cpu(), window)
    return model.feed([1, 2, 3]).shape, model.decode(4).shape, "tvm.relax" in sys.modules
engine = Engine()
print(engine.call(run))
engine.close()
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1"},
        timeout=120,
    )
    assert result.stdout == "((48,), (48,), False)\n", result.stderr
