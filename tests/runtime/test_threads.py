"""How many threads TVM gets, and that it needs only its runtime."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mlc_llm import ChatConfig
from mlc_llm.chat.evaluation import Reader
from mlc_llm.chat.loading import open_chat
from mlc_llm.runtime import threads
from mlc_llm.runtime.short_turns import SLICE_NS, slice_ns

from . import toy_library

NAMES = ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "TVM_THREAD_POOL_SPIN_COUNT", "TVM_BIND_THREADS")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        # Set first, so that what the test sets is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_usable_cpus", lambda: set(range(16)))


@pytest.mark.usefixtures("clean", "cpus")
def test_the_first_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = threads.physical_cores()
    assert threads.thread_count() == threads.ThreadCount(cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads.thread_count() == threads.ThreadCount(5, "OMP_NUM_THREADS", "5")
    monkeypatch.setenv("TVM_NUM_THREADS", "7")
    assert threads.thread_count() == threads.ThreadCount(7, "TVM_NUM_THREADS", "7")
    assert threads.thread_count(3) == threads.ThreadCount(3, "num_threads", "3")
    for wrong in ("", "none", "0", "-2", "00", "1.5", "9" * 5000):
        monkeypatch.setenv("TVM_NUM_THREADS", wrong)
        assert threads.thread_count() == threads.ThreadCount(1, "TVM_NUM_THREADS", wrong)
        assert threads.thread_count().asked_number is None
    monkeypatch.delenv("TVM_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # OpenMP's list, for loops within loops
    assert threads.thread_count().count == 4


@pytest.mark.usefixtures("clean", "cpus")
def test_there_are_no_more_than_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.thread_count(1024) == threads.ThreadCount(16, "num_threads", "1024")
    for name in ("OMP_NUM_THREADS", "TVM_NUM_THREADS"):
        monkeypatch.setenv(name, "200000000")
        assert threads.thread_count() == threads.ThreadCount(16, name, "200000000")


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
sys.modules['torch'] = None  # TVM imports it where it is installed, which takes a second
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
    counts = [2, 1, None, 1000]
    result = subprocess.run(
        [sys.executable, "-c", WORKERS, str(toy_path), str(folder), json.dumps(counts)],
        capture_output=True,
        text=True,
        env={**os.environ, "TVM_USE_RUNTIME_LIB": "1", "TVM_NUM_THREADS": "4"},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    used, workers = zip(*json.loads(result.stdout), strict=True)
    cpus = len(threads._usable_cpus())
    assert used == (min(2, cpus), 1, min(4, cpus), cpus)
    assert workers == tuple(count - 1 for count in used)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OMP_NUM_THREADS", "1", ""),
        ("OMP_NUM_THREADS", "2000", "OMP_NUM_THREADS is 2000, and there are 1 CPUs to use: the"),
        ("TVM_NUM_THREADS", "many", "TVM_NUM_THREADS is 'many', not a number of threads: the"),
        ("num_threads", "3000", "num_threads is 3000, and there are 1 CPUs to use: the model runs"),
    ],
)
def test_what_is_not_done_as_asked_is_said_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setattr(threads, "_usable_cpus", lambda: {0})
    setting = int(value) if name == "num_threads" else None
    if setting is None:
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING, "mlc_llm"):
        thread = threading.Thread(target=threads.use_threads, args=(setting,))
        thread.start()
        thread.join()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == bool(said)
    assert all(message.startswith(said) for message in messages)


@pytest.mark.usefixtures("clean", "cpus")
def test_what_the_system_does_not_start_is_not_asked_of_tvm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TVM would end the process."""
    alive: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(alive) == 1:
            raise RuntimeError("can't start new thread")
        alive.append(thread)
        start(thread)

    counts: list[int] = []

    def load() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", limited)
            assert threads._startable(16) == 2
        monkeypatch.setattr(threads, "_startable", lambda count: 2)
        threads.use_threads(16)
        import tvm

        counts.append(tvm.get_global_func("runtime.NumThreads")())

    with caplog.at_level(logging.WARNING, "mlc_llm"):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert counts == [2]
    assert not alive[0].is_alive()
    assert "no more than 2 of 16 threads" in caplog.text


ENVIRONMENT = """
import os, sys, ctypes, subprocess
sys.modules['torch'] = None  # TVM imports it where it is installed, which takes a second
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
names = ("TVM_NUM_THREADS", "OMP_NUM_THREADS", "TVM_THREAD_POOL_SPIN_COUNT", "TVM_BIND_THREADS")
before = dict(os.environ)
from mlc_llm import ChatModule, ChatConfig
for count in (None, 2):
    with ChatModule("demo", "cpu", ChatConfig(num_threads=count)) as chat:
        chat.generate("hi")
        assert dict(os.environ) == before, set(os.environ) ^ set(before)
        # What a child process inherits is C's environment.
        assert [libc.getenv(name.encode()) for name in names] == [
            os.environ.get(name, "").encode() or None for name in names
        ]
print("same")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="C's environment is another there")
@pytest.mark.matrix(own=[{"TVM_BIND_THREADS": "1"}])
@pytest.mark.parametrize(
    "own",
    [{}, {"TVM_BIND_THREADS": "1"}, {"TVM_THREAD_POOL_SPIN_COUNT": "7"}, {"OMP_NUM_THREADS": "1"}],
)
def test_the_environment_is_left_alone(own: dict[str, str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in NAMES}
    result = subprocess.run(
        [sys.executable, "-c", ENVIRONMENT],
        capture_output=True,
        text=True,
        env={**environment, **own},
        timeout=120,
    )
    assert result.stdout == "same\n", result.stderr


@pytest.mark.usefixtures("clean")
def test_tvm_reads_its_variables_while_a_pool_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setenv("TVM_BIND_THREADS", "1")
    with threads._pool_variables():
        seen.append({name: os.environ[name] for name in NAMES if name in os.environ})
    assert seen == [{"TVM_THREAD_POOL_SPIN_COUNT": "1000", "TVM_BIND_THREADS": "1"}]
    assert [name for name in NAMES if name in os.environ] == ["TVM_BIND_THREADS"]


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


def test_any_number_of_threads_computes_the_same() -> None:
    """To the bit: a prompt of many tokens, and an answer's of one at a time."""

    def logits(count: int) -> list[np.ndarray]:
        with open_chat("demo", "cpu", ChatConfig(num_threads=count)) as chat:
            read = [list(Reader(chat, how).read(range(3, 63))) for how in ("prompt", "answer")]
            return [np.concatenate(parts) for parts in read]

    for one, several in zip(logits(1), logits(len(threads._usable_cpus())), strict=True):
        assert one.shape[0] == 60
        np.testing.assert_array_equal(one, several)


def test_the_threads_of_a_model_take_short_turns() -> None:
    """Those that compute, with the priority that they had; no other thread of the process."""
    before = slice_ns()
    if not before:
        pytest.skip("this system has no slices of threads")
    with open_chat("demo", "cpu", ChatConfig(num_threads=1)) as chat:
        inside = chat.engine.call(lambda stop: (slice_ns(), os.getpriority(os.PRIO_PROCESS, 0)))
    assert inside == (SLICE_NS, os.getpriority(os.PRIO_PROCESS, 0))
    assert slice_ns() == before


BATCH = """
import os
from mlc_llm.runtime import short_turns

def turn(nanoseconds, policy):
    os.sched_setscheduler(0, policy, os.sched_param(0))
    short_turns.SLICE_NS = nanoseconds
    short_turns.take_short_turns()
    assert os.sched_getscheduler(0) == policy
    return short_turns.slice_ns()

assert turn(900_000, os.SCHED_OTHER) == 900_000
assert turn(100_000, os.SCHED_BATCH) == 900_000
assert turn(100_000, os.SCHED_OTHER) == 100_000
"""


def test_threads_of_another_policy_are_left_alone() -> None:
    if not slice_ns():
        pytest.skip("this system has no slices of threads")
    subprocess.run([sys.executable, "-c", BATCH], check=True)
