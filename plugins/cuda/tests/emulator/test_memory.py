"""Memory of the emulated GPU: what is out of bounds, misaligned, the host's, too much."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .gpu import GPU, GPUDied, GPUFailed

READ = 'extern "C" __global__ void f(const float* x, float* y, int i) { y[0] = x[i]; }'


def read(gpu: GPU, index: int) -> None:
    """Read an element of an array of 64."""
    gpu.run(READ, 1, 1, np.zeros(64, "float32"), np.zeros(1, "float32"), index)


def test_an_access_after_the_end_is_an_error(gpu: GPU) -> None:
    """The process goes on to the error, which is the kernel's."""
    problem = r"illegal memory access .* f: an access 0 bytes after the end of an allocation of 256"
    with pytest.raises(GPUFailed, match=problem):
        read(gpu, 64)


def test_every_byte_is_checked(own_gpu: Callable[..., GPU]) -> None:
    gpu = own_gpu(CHECK="1")
    read(gpu, 63)
    with pytest.raises(GPUFailed, match="an access 4 bytes before an allocation of 256"):
        read(gpu, -1)
    short = np.zeros(5, "float32")
    with pytest.raises(GPUFailed, match="0 bytes after the end of an allocation of 20 bytes"):
        gpu.run(READ, 1, 1, short, np.zeros(1, "float32"), 5)


def test_an_access_that_only_begins_in_bounds_is_an_error(own_gpu: Callable[..., GPU]) -> None:
    text = """extern "C" __global__ void f(const float* x, long long* y) {
  y[0] = *(const long long*)(x + 4);
}"""
    short = np.zeros(5, "float32")
    with pytest.raises(GPUFailed, match="0 bytes after the end of an allocation of 20 bytes"):
        own_gpu(CHECK="1").run(text, 1, 1, short, np.zeros(1, "int64"))


def test_after_a_failure_everything_is_refused(gpu: GPU) -> None:
    """As a GPU does: the process that begins then is another one."""
    with pytest.raises(GPUFailed):
        gpu.call("fail_and_go_on", READ)
    read(gpu, 1)


def test_memory_is_full_of_nans(gpu: GPU) -> None:
    text = (
        'extern "C" __global__ void f(float* y) { __shared__ float x[4]; y[0] = x[threadIdx.x]; }'
    )
    y = np.zeros(1, "float32")
    gpu.run(text, 1, 1, y)
    assert np.isnan(y[0])


def test_a_misaligned_vector_is_an_error(gpu: GPU) -> None:
    text = """extern "C" __global__ void f(const float* x, float4* y, int i) {
  y[0] = *(const float4*)(x + i);
}"""
    x, y = np.arange(8, dtype="float32"), np.zeros(4, "float32")
    gpu.run(text, 1, 1, x, y, 4)
    np.testing.assert_array_equal(y, x[4:])
    with pytest.raises(GPUFailed, match=r"misaligned address .* f: a misaligned address, line 2"):
        gpu.run(text, 1, 1, x, y, 2)


def test_the_host_may_not_touch_it(own_gpu: Callable[..., GPU]) -> None:
    gpu = own_gpu(PROTECT="1")
    read(gpu, 5)
    with pytest.raises(GPUDied, match=str(int(signal.SIGSEGV))):
        gpu.call("read_from_host", gpu.call("allocate", 100))


def test_there_is_only_so_much(own_gpu: Callable[..., GPU]) -> None:
    """What is too much is refused, and the process goes on."""
    gpu = own_gpu(MEMORY="1000000")
    held = gpu.call("allocate", 600000)
    assert gpu.call("memory", 0) == (400000, 1000000)
    with pytest.raises(GPUFailed, match="out of memory"):
        gpu.call("allocate", 500000)
    gpu.call("free", held)
    assert gpu.call("memory", 0) == (1000000, 1000000)
    read(gpu, 0)


def test_two_devices_have_memory_of_their_own(own_gpu: Callable[..., GPU]) -> None:
    gpu = own_gpu(DEVICES="2", MEMORY="5000")
    assert gpu.call("devices") == ["Emulated GPU 0", "Emulated GPU 1"]
    gpu.call("allocate", 3000, 1)
    assert gpu.call("memory", 0)[0] == 5000
    assert gpu.call("memory", 1)[0] == 2000
    with pytest.raises(GPUFailed, match="invalid device ordinal"):
        gpu.call("memory", 2)


def test_no_device(own_gpu: Callable[..., GPU]) -> None:
    assert own_gpu(DEVICES="0").call("devices") == []


def test_bytes_are_counted(own_gpu: Callable[..., GPU], tmp_path: Path) -> None:
    """By all threads; by blocks and in all, in sectors of 32 bytes."""
    text = """
extern "C" __global__ void f(const float* x, float* y) {
  int i = blockIdx.x * 32 + threadIdx.x;
  y[i] = x[i] + x[threadIdx.x] + x[0];
}
"""
    trace = tmp_path / "trace"
    gpu, x = own_gpu(CHECK="1", TRACE=str(trace)), np.ones(128, "float32")
    gpu.run(text, 4, 32, x, np.zeros(128, "float32"))
    assert [json.loads(line) for line in trace.read_text().splitlines()] == [
        {
            "kernel": "f",
            "grid": [4, 1, 1],
            "block": [32, 1, 1],
            "dynamic_shared": 0,
            "read": 128 * 3 * 4,
            "written": 128 * 4,
            "read_by_blocks": 128 + 3 * 256,
            "read_once": 512,
        }
    ]


@pytest.mark.parametrize("value", ["x[i] + x[i + 32]", "half(float(x[i]) * float(x[i + 32]))"])
def test_halves_that_are_passed_by_value_are_counted(
    own_gpu: Callable[..., GPU], tmp_path: Path, value: str
) -> None:
    """In loops and beside other kernels, where g++ inlines less."""
    text = """
extern "C" __global__ void f(const half* __restrict__ x, half* __restrict__ y) {
  for (int i = threadIdx.x; i < 32; i += 16) y[i] = VALUE;
}
extern "C" __global__ void g(const half* __restrict__ x, half* __restrict__ y) {
  for (int i = threadIdx.x; i < 32; i += 8) y[i] = VALUE;
}
"""
    trace = tmp_path / "trace"
    gpu = own_gpu(CHECK="1", TRACE=str(trace))
    gpu.run(text.replace("VALUE", value), 1, 16, np.ones(64, "float16"), np.zeros(32, "float16"))
    launch = json.loads(trace.read_text())
    assert launch["read"] == launch["read_once"] == 128
    assert launch["written"] == 64


def test_some_blocks_stand_for_all(own_gpu: Callable[..., GPU], tmp_path: Path) -> None:
    text = 'extern "C" __global__ void f(float* x) { x[blockIdx.x] += 1.0f; }'
    trace, x = tmp_path / "trace", np.zeros(10, "float32")
    own_gpu(CHECK="1", TRACE=str(trace), BLOCKS="3").run(text, 10, 1, x)
    np.testing.assert_array_equal(np.flatnonzero(x), [0, 3, 6])
    launch = json.loads(trace.read_text())
    assert (launch["grid"][0], launch["read"]) == (10, 12)


def test_all_blocks_along_other_axes_are_run(own_gpu: Callable[..., GPU]) -> None:
    text = 'extern "C" __global__ void f(float* x) { x[blockIdx.y * 4 + blockIdx.x] += 1.0f; }'
    x = np.zeros(12, "float32")
    own_gpu(BLOCKS="2").run(text, (4, 3, 1), 1, x)
    np.testing.assert_array_equal(x.reshape(3, 4), [[1, 0, 1, 0]] * 3)
