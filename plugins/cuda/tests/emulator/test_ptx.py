"""Inline PTX on the emulated GPU, as NVIDIA's PTX ISA defines it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .gpu import GPU, GPUFailed


def bfloat16(x: np.ndarray) -> np.ndarray:
    """The upper halves of numbers that lose nothing by it."""
    return (x.astype("float32").view("uint32") >> 16).astype("uint16")


MMA = """
extern "C" __global__ void f(const unsigned* a, const unsigned short* b, float* d) {
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned x[4] = {a[8 * g + t], a[8 * (g + 8) + t], a[8 * g + t + 4], a[8 * (g + 8) + t + 4]};
  unsigned y[2];
  for (int i = 0; i < 2; ++i)
    y[i] = b[8 * (2 * t + 8 * i) + g] | b[8 * (2 * t + 8 * i + 1) + g] << 16;
  float z[4] = {1.0f, 2.0f, 3.0f, 4.0f};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.TYPE.TYPE.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\\n"
      : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  d[8 * g + 2 * t] = z[0], d[8 * g + 2 * t + 1] = z[1];
  d[8 * (g + 8) + 2 * t] = z[2], d[8 * (g + 8) + 2 * t + 1] = z[3];
}
"""


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_a_product_of_matrices(gpu: GPU, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 8, (16, 16)), rng.integers(-8, 8, (16, 8))
    d = np.zeros((16, 8), "float32")
    stored = (lambda x: x.astype("float16")) if dtype == "f16" else bfloat16
    gpu.run(MMA.replace("TYPE", dtype), 1, 32, stored(a), stored(b), d)
    added = np.where(np.arange(16)[:, None] < 8, 1, 3) + np.arange(8) % 2
    np.testing.assert_array_equal(d, a @ b + added)


@pytest.mark.parametrize("transposed", ["", ".trans"])
def test_tiles_of_shared_memory(gpu: GPU, transposed: str) -> None:
    text = """
extern "C" __global__ void f(const unsigned short* x, unsigned* y) {
  __shared__ __align__(16) unsigned short held[256];
  for (int i = threadIdx.x; i < 256; i += 32) held[i] = x[i];
  __syncthreads();
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(held + 8 * threadIdx.x));
  unsigned d0, d1, d2, d3;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4TRANS.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3) : "r"(address) : "memory");
  y[threadIdx.x] = d0, y[32 + threadIdx.x] = d1, y[64 + threadIdx.x] = d2;
  y[96 + threadIdx.x] = d3;
}
"""
    x, y = np.arange(256, dtype="uint16"), np.zeros(128, "uint32")
    gpu.run(text.replace("TRANS", transposed), 1, 32, x, y)
    tiles = x.reshape(4, 8, 8)
    wanted = tiles.transpose(0, 2, 1) if transposed else tiles
    np.testing.assert_array_equal(y.view("uint16").reshape(4, 8, 8), wanted)


COPY = """
extern "C" __global__ void f(const float* x, float* y, int given) {
  __shared__ __align__(16) float held[2][128];
  for (int i = 0; i < 2; ++i) {
    unsigned to = __cvta_generic_to_shared(held[i] + 4 * threadIdx.x);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(x + 128 * i + 4 * threadIdx.x), "r"(given) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  WAIT
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      y[128 * i + 4 * threadIdx.x + j] = held[i][(4 * threadIdx.x + j + 60) % 128];
}
"""


def copied(gpu: GPU, wait: str, given: int = 16) -> np.ndarray:
    """256 numbers by way of shared memory, each 128 of them turned by 60; those before are 1."""
    y = np.zeros((2, 128), "float32")
    gpu.run(COPY.replace("WAIT", wait), 1, 32, np.arange(256, dtype="float32"), y, given)
    return np.roll(y, 60, 1).reshape(256)


def test_copies_beside_the_computation(gpu: GPU) -> None:
    wait = 'asm volatile("cp.async.wait_group %0;" :: "n"(NUMBER)); __syncthreads();'
    np.testing.assert_array_equal(copied(gpu, wait.replace("NUMBER", "0")), np.arange(256))
    zeros = np.where(np.arange(256) % 4 < 2, np.arange(256), 0)
    np.testing.assert_array_equal(copied(gpu, wait.replace("NUMBER", "0"), 8), zeros)
    one = copied(gpu, wait.replace("NUMBER", "1"))
    np.testing.assert_array_equal(one[:128], np.arange(128))
    assert np.isnan(one[128:]).all()
    assert np.isnan(copied(gpu, "__syncthreads();")).all()


def test_a_copy_is_waited_for_by_its_own_thread_only(own_gpu: Callable[..., GPU]) -> None:
    wait = 'asm volatile("cp.async.wait_all;"); '
    copied(own_gpu(CHECK="1"), wait + "__syncthreads();")
    with pytest.raises(GPUFailed, match="a race in shared memory"):
        copied(own_gpu(CHECK="1"), wait)


def test_instructions_on_numbers(gpu: GPU) -> None:
    text = """
__device__ __forceinline__ unsigned chosen(unsigned a, unsigned b, unsigned c) {
  unsigned d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
extern "C" __global__ void f(unsigned* y, float* z) {
  y[0] = chosen(0xff00ff00, 0x0ff00ff0, 0x1);
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(y[1]) : "r"(0x33221100), "r"(0x77665584), "r"(0xc417));
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(z[0]) : "f"(-3.0f));
  if (y[0])
    asm volatile("{ .reg .pred p;\\n"
                 "  setp.ne.b32 p, %1, 0;\\n"
                 "  @p mov.b32 %0, %2;\\n"
                 "  @!p mov.b32 %0, %3; }" : "=r"(y[2]) : "r"(0), "r"(5), "r"(6));
  else
    y[2] = 7;
  asm("fma.rn.f16x2 %0, %1, %2, %3;"
      : "=r"(y[3]) : "r"(0x40003c00), "r"(0x42004200), "r"(0x3c003c00));
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y[4]) : "f"(1.0f), "f"(2.0f));
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2 + 8];"
               : "=r"(y[6]), "=r"(y[7]) : "l"(y));
}
"""
    y, z = np.zeros(8, "uint32"), np.zeros(1, "float32")
    gpu.run(text, 1, 1, y, z)
    assert y[0] == 0xFF00FF00 & 0x0FF00FF0 | 1
    # Bytes 7, 1, 4 of both, and the sign of byte 4.
    assert y[1] == 0xFF841177
    assert z[0] == 0.125
    assert y[2] == 6
    assert y[3] == 0x47004400  # 1 * 3 + 1 = 4, 2 * 3 + 1 = 7
    assert y[4] == 0x3F804000
    np.testing.assert_array_equal(y[6:], y[2:4])


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ('asm("wgmma.fence.sync.aligned;");', r"not know the instruction wgmma\.fence"),
        ('asm("mov.b32 %0, %1;" :: "r"(1), "r"(2));', "writes what is no output, line 2"),
        (
            'asm("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]),'
            ' "=r"(y[3]) : "l"(y + 1));',
            "a misaligned address, line 2",
        ),
        (
            'asm("ld.shared.u32 %0, [%1];" : "=r"(y[0]) : "r"(64));',
            "out of bounds of shared memory",
        ),
        ("y[0] = __cvta_generic_to_shared(y);", "not in shared memory"),
    ],
)
def test_what_is_wrong_is_an_error(gpu: GPU, statement: str, problem: str) -> None:
    text = f'extern "C" __global__ void f(unsigned* y) {{\n  {statement}\n}}'
    with pytest.raises(GPUFailed, match=problem):
        gpu.run(text, 1, 1, np.zeros(8, "uint32"))
