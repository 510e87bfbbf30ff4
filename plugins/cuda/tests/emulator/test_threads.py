"""Threads of the emulated GPU: barriers, warps, atomic operations, and their order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .gpu import GPU, GPUFailed

ORDERS = ("forward", "reverse", "random")


def test_orders(gpu: GPU) -> None:
    """Of blocks, and of the threads of each; a random one is the same in each run."""
    text = """
extern "C" __global__ void f(int* y, int* turn) {
  y[blockIdx.x * 64 + threadIdx.x] = atomicAdd(turn, 1);
}
"""

    def turns(order: str) -> np.ndarray:
        y = np.zeros(640, "int32")
        gpu.set("ORDER", order)
        gpu.run(text, 10, 64, y, np.zeros(1, "int32"))
        return y

    np.testing.assert_array_equal(turns("forward"), np.arange(640))
    np.testing.assert_array_equal(turns("reverse"), np.arange(640)[::-1])
    shuffled = turns("random")
    np.testing.assert_array_equal(np.sort(shuffled), np.arange(640))
    assert np.unique(np.diff(shuffled)).size > 100
    np.testing.assert_array_equal(turns("random"), shuffled)


REVERSED = """
extern "C" __global__ void __launch_bounds__(128) f(const int* x, int* y) {
  __shared__ int held[128];
  held[threadIdx.x] = x[blockIdx.x * 128 + threadIdx.x];
  BARRIER
  y[blockIdx.x * 128 + threadIdx.x] = held[127 - threadIdx.x];
}
"""


def reverse(gpu: GPU, barrier: str) -> np.ndarray:
    """Each block's part of a row of numbers, turned around through shared memory."""
    y = np.zeros(256, "int32")
    gpu.run(REVERSED.replace("BARRIER", barrier), 2, 128, np.arange(256, dtype="int32"), y)
    return y


WANTED = np.arange(256).reshape(2, 128)[:, ::-1].ravel()


@pytest.mark.parametrize("order", ORDERS)
def test_threads_wait_at_a_barrier(gpu: GPU, order: str) -> None:
    gpu.set("ORDER", order)
    np.testing.assert_array_equal(reverse(gpu, "__syncthreads();"), WANTED)


@pytest.mark.parametrize("order", ORDERS)
def test_without_a_barrier_what_was_not_written_is_read(gpu: GPU, order: str) -> None:
    """And that is no earlier block's value."""
    gpu.set("ORDER", order)
    wrong = reverse(gpu, "")
    assert set(wrong[wrong != WANTED]) == {-1}


def test_a_race_is_found_where_values_are_right(own_gpu: Callable[..., GPU]) -> None:
    text = """
extern "C" __global__ void f(int* y) {
  __shared__ int most;
  if (threadIdx.x == 0) most = 0;
  BARRIER
  if (threadIdx.x == 40) most = 40;
  __syncthreads();
  y[threadIdx.x] = most;
}
"""
    gpu, y = own_gpu(CHECK="1"), np.zeros(64, "int32")
    gpu.run(text.replace("BARRIER", "__syncthreads();"), 1, 64, y)
    np.testing.assert_array_equal(y, 40)
    with pytest.raises(GPUFailed, match="a race in shared memory: it writes what thread 0 wrote"):
        gpu.run(text.replace("BARRIER", ""), 1, 64, y)
    with pytest.raises(GPUFailed, match="a race in shared memory: it writes what thread 0 read"):
        gpu.run(
            'extern "C" __global__ void f(int* y) { __shared__ int x[64]; x[threadIdx.x] = 1;'
            "__syncthreads(); if (threadIdx.x < 32) y[threadIdx.x] = "
            "x[threadIdx.x + 32]; else x[threadIdx.x] = 2; }",
            *(1, 64, y),
        )


def test_blocks_do_not_wait_for_each_other(own_gpu: Callable[..., GPU]) -> None:
    text = 'extern "C" __global__ void f(int* x) { x[(blockIdx.x + 1) % 2] = x[blockIdx.x]; }'
    with pytest.raises(GPUFailed, match=r"a race in device memory: .* another block"):
        own_gpu(CHECK="1").run(text, 2, 1, np.zeros(2, "int32"))


@pytest.mark.parametrize(
    ("others", "readers"),
    [
        ("another warp", "threadIdx.x == 0 || threadIdx.x == 33"),
        ("another lane", "threadIdx.x == 32 || threadIdx.x == 33"),
        ("another block", "threadIdx.x == 33"),
    ],
)
def test_who_read_before_the_last_reader_is_not_forgotten(
    own_gpu: Callable[..., GPU], others: str, readers: str
) -> None:
    """The thread that writes has read, too, after another one."""
    text = f"""
extern "C" __global__ void f(int* x, int* y) {{
  if ({readers}) y[threadIdx.x + 64 * blockIdx.x] = x[0];
  if (threadIdx.x == 33 && blockIdx.x == gridDim.x - 1) x[0] = 1;
}}
"""
    blocks = 2 if others == "another block" else 1
    with pytest.raises(GPUFailed, match=r"a race in device memory: it writes what .* read"):
        own_gpu(CHECK="1").run(text, blocks, 64, np.zeros(1, "int32"), np.zeros(128, "int32"))


def test_a_warp_is_in_step_where_it_says_so(own_gpu: Callable[..., GPU]) -> None:
    text = """
extern "C" __global__ void f(int* y) {
  __shared__ int x[32];
  x[threadIdx.x] = threadIdx.x;
  SYNC
  y[threadIdx.x] = x[31 - threadIdx.x];
}
"""
    gpu, y = own_gpu(CHECK="1"), np.zeros(32, "int32")
    gpu.run(text.replace("SYNC", "__syncwarp();"), 1, 32, y)
    np.testing.assert_array_equal(y, np.arange(32)[::-1])
    with pytest.raises(GPUFailed, match="a race in shared memory"):
        gpu.run(text.replace("SYNC", ""), 1, 32, y)


def test_barriers_in_two_branches_are_named(gpu: GPU) -> None:
    text = """extern "C" __global__ void f(int* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    y[0] = 1;
    __syncthreads();
  }
}"""
    with pytest.raises(GPUFailed, match=r"f: threads wait at different barriers, lines 3 and 6"):
        gpu.run(text, 1, 64, np.zeros(1, "int32"))


def test_threads_that_have_ended_are_not_waited_for(gpu: GPU) -> None:
    text = """extern "C" __global__ void f(int* y) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}"""
    y = np.zeros(64, "int32")
    gpu.run(text, 1, 64, y)
    np.testing.assert_array_equal(y, np.arange(64) < 40)


def test_a_wait_without_end_is_an_error(gpu: GPU) -> None:
    text = """extern "C" __global__ void f(int* y) {
  if (threadIdx.x == 5) return;
  y[threadIdx.x] = __shfl_sync(0xffffffff, 1, 0);
}"""
    with pytest.raises(GPUFailed, match="thread 0 waits for others that never come, line 3"):
        gpu.run(text, 1, 32, np.zeros(32, "int32"))


SHUFFLES = """
extern "C" __global__ void f(int* y) {
  int lane = threadIdx.x % 32, i = threadIdx.x;
  y[i] = __shfl_sync(0xffffffff, i, 7);
  y[64 + i] = __shfl_xor_sync(0xffffffff, i, 16);
  y[128 + i] = __shfl_down_sync(0xffffffff, i, 3);
  y[192 + i] = __shfl_up_sync(0xffffffff, i, 3);
  y[256 + i] = __shfl_sync(0xffffffff, i, 1, 8);
  y[320 + i] = __ballot_sync(0xffffffff, lane % 2);
  y[384 + i] = __any_sync(0xffffffff, i == 40);
  y[448 + i] = __all_sync(0xffffffff, i >= 32);
  if (lane < 16) y[512 + i] = __shfl_xor_sync(0x0000ffff, i, 1);
  else y[512 + i] = __shfl_xor_sync(0xffff0000, i, 2);
  y[576 + i] = __reduce_add_sync(0xffffffff, i);
}
"""


def test_lanes_exchange_values_where_accesses_are_checked(own_gpu: Callable[..., GPU]) -> None:
    y = np.zeros((10, 64), "int32")
    own_gpu(CHECK="1").run(SHUFFLES, 1, 64, y)
    assert (y[1] == np.arange(64) ^ 16).all()


@pytest.mark.parametrize("order", ORDERS)
def test_lanes_exchange_values(gpu: GPU, order: str) -> None:
    """As the CUDA programming guide defines it; two warps, each for itself."""
    gpu.set("ORDER", order)
    y = np.zeros((10, 64), "int32")
    gpu.run(SHUFFLES, 1, 64, y)
    i = np.arange(64)
    warp, lane = i // 32 * 32, i % 32
    wanted = [
        warp + 7,
        i ^ 16,
        np.where(lane < 29, i + 3, i),
        np.where(lane >= 3, i - 3, i),
        i // 8 * 8 + 1,
        np.full(64, 0xAAAAAAAA, "uint32").astype("int32"),
        i >= 32,
        i >= 32,
        np.where(lane < 16, i ^ 1, i ^ 2),
        np.where(i < 32, 496, 496 + 32 * 32),
    ]
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("__shfl_sync(0xfffffffe, 1, 2)", "a lane is not in the mask of its exchange, line 3"),
        ("__shfl_sync(threadIdx.x < 4 ? 0xff : ~0u, 1, 0)", "with different masks, lines 3 and 3"),
        ("__shfl_sync(0xffffffff >> 16 * (threadIdx.x < 16), 1, 20)", "different masks"),
    ],
)
def test_a_wrong_mask_is_an_error(gpu: GPU, call: str, problem: str) -> None:
    text = f'extern "C" __global__ void f(int* y) {{\n\n  y[threadIdx.x] = {call};\n}}'
    with pytest.raises(GPUFailed, match=problem):
        gpu.run(text, 1, 32, np.zeros(32, "int32"))


def test_two_exchanges_in_branches_are_an_error(gpu: GPU) -> None:
    text = """extern "C" __global__ void f(int* y) {
  if (threadIdx.x < 16) y[0] = __shfl_sync(0xffffffff, 1, 2);
  else y[1] = __shfl_sync(0xffffffff, 1, 3);
}"""
    with pytest.raises(GPUFailed, match="lanes are at different exchanges, lines 2 and 3"):
        gpu.run(text, 1, 32, np.zeros(32, "int32"))


def test_atomic_operations(own_gpu: Callable[..., GPU]) -> None:
    """They are no races, and a plain read beside one is."""
    text = """
extern "C" __global__ void f(int* y, float* z) {
  int i = blockIdx.x * 64 + threadIdx.x;
  atomicAdd(y, i);
  atomicMax(y + 1, i);
  atomicMin(y + 2, i);
  atomicOr(y + 3, 1 << i % 20);
  atomicCAS(y + 4, 0, 7);
  atomicInc((unsigned*)y + 5, 9);
  atomicAdd(z, 0.5f);
  PLAIN
}
"""
    gpu, y, z = own_gpu(CHECK="1"), np.zeros(6, "int32"), np.zeros(1, "float32")
    gpu.run(text.replace("PLAIN", ""), 3, 64, y, z)
    np.testing.assert_array_equal(y, [sum(range(192)), 191, 0, 2**20 - 1, 7, 2])
    assert z[0] == 96
    with pytest.raises(GPUFailed, match="a race in device memory"):
        gpu.run(text.replace("PLAIN", "z[1] = y[0];"), 3, 64, y, np.zeros(2, "float32"))


def test_indices_in_three_dimensions(gpu: GPU) -> None:
    text = """
extern "C" __global__ void f(int* y) {
  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  y[block * 24 + thread] = 100 * blockIdx.y + 10 * threadIdx.y + threadIdx.z;
}
"""
    y = np.zeros((5, 3, 2, 4, 3, 2), "int32")
    gpu.run(text, (2, 3, 5), (2, 3, 4), y)
    _, by, _, tz, ty, _ = np.indices(y.shape)
    np.testing.assert_array_equal(y, 100 * by + 10 * ty + tz)


def test_shared_memory_of_the_launch(gpu: GPU) -> None:
    text = """
extern "C" __global__ void f(float* y, int n) {
  extern __shared__ float held[];
  for (int i = threadIdx.x; i < n; i += 32) held[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) y[0] = held[n - 1];
}
"""
    y = np.zeros(1, "float32")
    gpu.run(text, 1, 32, y, 1000, shared_bytes=4000)
    assert y[0] == 999
    gpu.run(text, 1, 32, y, 25000, shared_bytes=100000, large_shared=True)
    assert y[0] == 24999
    with pytest.raises(GPUFailed, match="invalid argument"):
        gpu.run(text, 1, 32, y, 25000, shared_bytes=100000)
