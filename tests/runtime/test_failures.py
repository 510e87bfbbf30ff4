"""What fails while a model takes its memory is an error with numbers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from mlc_llm import host_memory
from mlc_llm.errors import DeviceError, LibraryError
from mlc_llm.runtime import device_memory
from mlc_llm.runtime.failures import as_device_errors, is_shortage
from mlc_llm.runtime.memory import MemoryEstimate
from mlc_llm.testing import raises

NEED = MemoryEstimate(3 << 30, 2 << 30, 1 << 30, 1000, 100)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("libtvm.so: failed to map segment from shared object"),
        ImportError("x.so: cannot allocate memory in static TLS block"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("CUDA: out of memory"),
    ],
)
def test_a_shortage_tells_what_is_needed_and_what_there_is(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_shortage(error)
    monkeypatch.setattr("mlc_llm.runtime.failures.available_memory", lambda: 1 << 29)
    monkeypatch.setattr("mlc_llm.runtime.failures.memory_limit", lambda: 7 << 30)
    with pytest.raises(DeviceError) as caught, as_device_errors("cpu:0", NEED):
        raise error
    message = str(caught.value)
    assert str(error) in message
    for part in ("cpu:0", "6.00 GiB", "3.00 GiB", "0.50 GiB left", "7.00 GiB (ulimit -v)"):
        assert part in message
    assert caught.value.__cause__ is error


def test_a_device_that_fails_is_named() -> None:
    with (
        raises("device-failed", "vulkan:0", "6.00 GiB", "the device is lost", error=DeviceError),
        as_device_errors("vulkan:0", NEED),
    ):
        raise RuntimeError("the device is lost")


@pytest.mark.parametrize(
    "error",
    [
        LibraryError("ours"),
        ValueError("a mistake"),
        ImportError("No module named 'tvm'"),
        OSError(errno.ENOENT, "No such file"),
        KeyboardInterrupt(),
    ],
)
def test_all_else_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_device_errors("cpu:0", NEED):
        raise error
    assert caught.value is error


def test_a_slab_is_smaller_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = device_memory._slab, []

    def slab(size: int) -> object:
        asked.append(size)
        if size > 1 << 20:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(size)

    monkeypatch.setattr(device_memory, "_slab", slab)
    assert device_memory._room(1000).nbytes == 1000
    assert asked == [device_memory.SLAB_BYTES, 1000]
    with pytest.raises(OSError, match="Cannot allocate"):
        device_memory._room(2 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the address space")
class TestLimit:
    def test_it_counts_as_memory_that_is_left(self) -> None:
        program = (
            "import resource; from mlc_llm import host_memory as h; "
            "assert h.memory_limit() is None; "
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); "
            "print(h.memory_limit() == 1 << 30, 0 < h.available_memory() < (1 << 30) - (1 << 20))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.stdout == "True True\n", done.stderr
        assert host_memory.available_memory() is not None

    @pytest.mark.matrix(left=[0, 64, 400])
    @pytest.mark.parametrize("left", [0, 8, 24, 64, 90, 180, 400])
    def test_whatever_it_is_a_model_is_loaded_or_refused(self, left: int) -> None:
        """MiB that are left when TVM is not imported yet."""
        program = f"""
import resource, sys
from pathlib import Path
sys.modules['torch'] = None  # TVM imports it where it is installed, which takes a second
from mlc_llm.chat.loading import load_chat
from mlc_llm.chat.plan import plan_chat
from mlc_llm.errors import DeviceError
from mlc_llm.library.resolve import resolve_library
from mlc_llm.registry.registry import default_registry
plan = plan_chat("demo", "cpu", None, None, default_registry())
resolve_library(plan.request)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + ({left} << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    load_chat(plan, default_registry()).engine.close()
    print("loaded")
except DeviceError as error:
    assert "iB" in str(error), error
    print("refused")
"""
        environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout in ("loaded\n", "refused\n")
