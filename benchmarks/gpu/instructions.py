"""What some instructions do, against NumPy: those that the kernels in CUDA C are made of.

The emulated GPU of the tests computes them as the PTX manual defines them. If one of these checks
fails on a GPU, that reading is wrong, and so is every kernel that is built on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.cases import Case, Run

Array = Any


class InstructionKernels:
    """Makes a kernel of one warp out of CUDA C; for where TVM's compiler is."""

    def kernel(self, name: str, body: str, **arrays: tuple[str, int]) -> Any:
        """A kernel whose threads run ``body``.

        Args:
            name: the kernel's name.
            body: statements of CUDA C.
            arrays: dtypes and elements of its arguments, by their names there.
        """
        from mlc_llm_cuda.kernels.text import call

        from mlc_llm.compile.gpu.kernels.launch import argument, i32, kernel, launch

        c_types = {"uint16": "unsigned short", "uint32": "unsigned", "float32": "float"}
        with kernel(name) as built:
            buffers = {key: argument(key, (count,), t) for key, (t, count) in arrays.items()}
            parameters = {
                f"{c_types[arrays[key][0]]}* {key}": buffer.data for key, buffer in buffers.items()
            }
            with launch([i32(1)], 32):
                call(name, parameters, body, ())
        return built.get()


MMA = """
  int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const unsigned* p = reinterpret_cast<const unsigned*>(a);
  unsigned x[4] = {p[8 * g + t], p[8 * (g + 8) + t], p[8 * g + t + 4], p[8 * (g + 8) + t + 4]};
  unsigned y[2];
  for (int i = 0; i < 2; ++i)
    y[i] = b[8 * (2 * t + 8 * i) + g] | b[8 * (2 * t + 8 * i + 1) + g] << 16;
  float z[4] = {d[8 * g + 2 * t], d[8 * g + 2 * t + 1],
                d[8 * (g + 8) + 2 * t], d[8 * (g + 8) + 2 * t + 1]};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  d[8 * g + 2 * t] = z[0], d[8 * g + 2 * t + 1] = z[1];
  d[8 * (g + 8) + 2 * t] = z[2], d[8 * (g + 8) + 2 * t + 1] = z[3];
"""

TILES = """
  __shared__ __align__(16) unsigned short held[256];
  for (int i = threadIdx.x; i < 256; i += 32) held[i] = x[i];
  __syncthreads();
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(held + 8 * threadIdx.x));
  unsigned d0, d1, d2, d3;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4TRANSPOSED.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3) : "r"(address) : "memory");
  y[threadIdx.x] = d0, y[32 + threadIdx.x] = d1, y[64 + threadIdx.x] = d2;
  y[96 + threadIdx.x] = d3;
"""

COPY = """
  __shared__ __align__(16) float held[2][128];
  for (int i = 0; i < 2; ++i) {
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(held[i] + 4 * threadIdx.x));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(to), "l"(x + 128 * i + 4 * threadIdx.x), "r"(GIVEN) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  __syncthreads();
  for (int j = 0; j < 4; ++j) y[4 * threadIdx.x + j] = held[0][(4 * threadIdx.x + j + 60) % 128];
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  for (int j = 0; j < 4; ++j)
    y[128 + 4 * threadIdx.x + j] = held[1][(4 * threadIdx.x + j + 60) % 128];
"""

LOADS = """
  unsigned v0, v1, v2, v3, c;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v0), "=r"(v1), "=r"(v2), "=r"(v3) : "l"(x + 4 * threadIdx.x));
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(c) : "r"(v0), "r"(v1), "r"(v2));
  y[threadIdx.x] = c ^ __shfl_xor_sync(0xffffffff, v3, 5);
"""


def product(kernels: Any, run: Run, rng: np.random.Generator) -> None:
    """``mma.m16n8k16`` of halves, with sums in float32; numbers of which every sum is exact."""
    a, b = rng.integers(-8, 8, (16, 16)), rng.integers(-8, 8, (16, 8))
    before = rng.integers(-100, 100, (16, 8))
    d = before.astype("float32").reshape(-1)
    halves = (x.astype("float16").view("uint16").reshape(-1) for x in (a, b))
    shapes = {"a": ("uint16", 256), "b": ("uint16", 128), "d": ("float32", 128)}
    run(kernels.kernel("instruction_mma", MMA, **shapes), *halves, d)
    np.testing.assert_array_equal(d.reshape(16, 8), a @ b + before)


def tiles(transposed: bool) -> Case:
    """``ldmatrix``, and with its tiles transposed."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        name = f"instruction_ldmatrix{'_trans' * transposed}"
        text = TILES.replace("TRANSPOSED", ".trans" * transposed)
        x, y = rng.integers(0, 65536, 256).astype("uint16"), np.zeros(128, "uint32")
        run(kernels.kernel(name, text, x=("uint16", 256), y=("uint32", 128)), x, y)
        wanted = x.reshape(4, 8, 8).transpose(0, *((2, 1) if transposed else (1, 2)))
        np.testing.assert_array_equal(y.view("uint16").reshape(4, 8, 8), wanted)

    return check


def copies(given: int) -> Case:
    """``cp.async`` of 16 bytes, of which ``given`` are read and the others become zero."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        x, y = rng.standard_normal(256).astype("float32"), np.zeros((2, 128), "float32")
        name, text = f"instruction_cp_async_{given}", COPY.replace("GIVEN", str(given))
        flat = y.reshape(-1)
        run(kernels.kernel(name, text, x=("float32", 256), y=("float32", 256)), x, flat)
        wanted = np.where(np.arange(256) % 4 < given // 4, x, 0).reshape(2, 128)
        np.testing.assert_array_equal(np.roll(y, 60, 1), wanted)

    return check


def loads(kernels: Any, run: Run, rng: np.random.Generator) -> None:
    """Loads of 16 bytes, ``lop3``, and an exchange of values between lanes."""
    x, y = rng.integers(0, 2**32, 128, np.uint32), np.zeros(32, "uint32")
    run(kernels.kernel("instruction_loads", LOADS, x=("uint32", 128), y=("uint32", 32)), x, y)
    v = x.reshape(32, 4)
    other = v[np.arange(32) ^ 5, 3]
    np.testing.assert_array_equal(y, (v[:, 0] & v[:, 1] | v[:, 2]) ^ other)


CASES: dict[str, Case] = {
    "mma": product,
    "ldmatrix": tiles(False),
    "ldmatrix_trans": tiles(True),
    "cp_async": copies(16),
    "cp_async_zero_fill": copies(8),
    "loads": loads,
}
"""By the names that their kernels have in the bundle."""
