"""What this machine can do at best: measured, because no table of CPUs tells it.

The kernels are compiled once, in a child process, and cached. They are run each time, with the
threads of the model, so that the peaks and what they are compared with come from the same machine
in the same state.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.cache_root import cache_root
from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.work import Arithmetic
from mlc_llm.device.cpu.peaks import run_kernels
from mlc_llm.errors import CompileError
from mlc_llm.library.cache import LIBRARY_SUFFIX, LibraryCache
from mlc_llm.library.jit import source_digest
from mlc_llm.registry.child import python_command, python_environment, run_child
from mlc_llm.runtime.memory import available_memory
from mlc_llm.runtime.threads import thread_count
from mlc_llm.version import tvm_version

KERNELS_MODULE = "mlc_llm.device.cpu.kernels.peak"

READ_BYTES = 10**9
"""Bytes of the sum that measures the read bandwidth: more than any cache holds."""


@dataclass(frozen=True)
class Peaks:
    """What the machine does at best, with the threads of the model.

    Args:
        read: bytes a second that a sum over memory reads.
        operations: operations a second, two for each multiply-add, by what they are done in.
    """

    read: float
    operations: dict[Arithmetic, float]

    def arithmetic(self, wanted: Arithmetic) -> Arithmetic:
        """Whose peak bounds operations that are best done in ``wanted``: float32 at the least."""
        return wanted if wanted in self.operations else Arithmetic.FLOAT


def measure_peaks(chat: LoadedChat) -> Peaks | None:
    """Measure the machine with the threads of a loaded model.

    Args:
        chat: the model, which should rest meanwhile.

    Returns:
        The peaks; None for a device other than the CPU, whose peaks are not known.

    Raises:
        CompileError: the kernels cannot be compiled.
        OSError: the cache cannot be written.
    """
    if chat.plan.device.device.name != "cpu":
        return None
    library = compiled_kernels(chat.plan.device.device.target())
    threads = thread_count(chat.plan.settings.file.num_threads).count
    available = available_memory()
    # Half of what there is, so that nothing else has to leave the memory.
    size = READ_BYTES if available is None else min(READ_BYTES, available // 2)
    # In the engine's thread, which owns the pool of threads.
    found = chat.engine.call(lambda stop: run_kernels(library, threads, size))
    operations = {Arithmetic.FLOAT: found.float32}
    if found.int8 is not None:
        operations[Arithmetic.INTEGER] = found.int8
    return Peaks(found.read, operations)


def compiled_kernels(target: object, cache: LibraryCache | None = None) -> Path:
    """The library of the kernels, from the cache or compiled now.

    Args:
        target: what describes this machine's CPU.
        cache: where it is kept; by default in the cache of everything.

    Raises:
        CompileError: compiling failed.
        OSError: the cache cannot be written.
    """
    cache = cache or LibraryCache(cache_root() / "peaks")
    known = [target, tvm_version(), source_digest((KERNELS_MODULE,)), sysconfig.get_platform()]
    text = json.dumps(known, sort_keys=True)
    key = f"peaks-{hashlib.sha256(text.encode()).hexdigest()[:20]}"
    path = cache.path(key)
    if reason := cache.folder_problem():
        raise CompileError(f"{cache.folder} cannot be used: {reason}")
    if cache.problem(path) is None:
        return path
    with cache.locked(key):
        if cache.problem(path) is not None:
            with cache.workspace(key) as folder:
                cache.publish(_compile(folder / f"library{LIBRARY_SUFFIX}"), key)
    return path


def _compile(output: Path) -> Path:
    """Compile the kernels in a child process, which has all of TVM."""
    command = python_command(KERNELS_MODULE, str(output))
    outcome = run_child(command, python_environment({"TVM_USE_RUNTIME_LIB": None}))
    if outcome.returncode != 0:
        raise CompileError(
            "The kernels that measure this machine's peaks cannot be compiled: the compiler "
            f"{outcome.ending()}; it said: {outcome.last_words()}"
        )
    return output
