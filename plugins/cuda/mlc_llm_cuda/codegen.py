"""CUDA's compiler half: the kernels that GPUs share, and faster ones in CUDA C."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.makers import KernelMakers
from mlc_llm.errors import CompileError
from mlc_llm.plugin import Unavailable
from mlc_llm.registry.choice import unavailable
from mlc_llm_cuda import backend, compilation
from mlc_llm_cuda.kernels import decode_attention, linear, prefill_attention
from mlc_llm_cuda.parts import require_toolkit, require_tvm_runtime
from mlc_llm_cuda.stand_in import stand_in
from mlc_llm_cuda.target import capability_of
from mlc_llm_cuda.toolkit import DRIVER

FIRST_WITH_HALF_MATRICES = 80
"""The compute capability from which on tensor cores multiply 16 x 8 x 16 halves."""


class CUDACodegen(GPUCodegen):
    """Compiles for one CUDA target, for which no GPU and no driver need be here.

    Args:
        target: the TVM target, of kind ``cuda``.
        opt: compilation options; there are none.

    Raises:
        CompileError: TVM's CUDA runtime, which makes the library, cannot be loaded.
        DeviceError: a part of NVIDIA's wheels, or of TVM, is missing.
    """

    kernels = KernelMakers(
        gemv=linear.gemv,
        folds_norm=linear.folds_norm,
        matmul=linear.matmul,
        prefill=prefill_attention.prefill,
        decode=decode_attention.decode,
    )

    def __init__(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> None:
        super().__init__(capabilities_of(target), opt)
        _require_runtime()
        compilation.register()


def capabilities_of(target: Mapping[str, Any]) -> GPUCapabilities:
    """What all GPUs of a target can do.

    Args:
        target: the TVM target; its ``arch`` is the oldest of its compute capabilities.
    """
    has_matrices = capability_of(target) >= FIRST_WITH_HALF_MATRICES
    instructions = (linear.INSTRUCTION,) if has_matrices else ()
    return replace(GPUCapabilities.of(target), matrix_instructions=instructions, vector_bytes=16)


def _require_runtime() -> None:
    """Load TVM's CUDA runtime. Without it TVM would put CUDA C into the library, silently."""
    try:
        require_toolkit()
        require_tvm_runtime()
    except Unavailable as error:
        raise unavailable("cuda", error.availability) from None
    if backend.loaded():
        return
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        stand_in()
    try:
        backend.load_runtime()
    except (OSError, RuntimeError) as error:
        raise CompileError(f"TVM's CUDA runtime cannot be loaded: {error}") from error
