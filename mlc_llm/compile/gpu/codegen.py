"""The compiler half that GPUs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm.s_tir import dlight

from mlc_llm.compile.attention_kernels import attention_kernels
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.lowering import lower
from mlc_llm.compile.gpu.makers import GPU, KernelMakers
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Plan, Repack


class GPUCodegen:
    """Compiles for one GPU target; a ``DeviceCodegen``.

    Args:
        capabilities: what the GPU can do.
        opt: compilation options by name; there are none yet.
    """

    rows_agree = False  # Products with one row are summed in another order than with many.

    kernels = KernelMakers()
    """What makes the kernels; a backend overrides it."""

    def __init__(self, capabilities: GPUCapabilities, opt: Mapping[str, str]) -> None:
        self.capabilities = capabilities

    def activation_dtype(self, model_dtype: str) -> str:
        return model_dtype

    def lower(self, model: Module, plan: Plan, phase: Phase) -> tuple[Module, list[Repack]]:
        return lower(model, plan, GPU(self.kernels, self.capabilities))

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        kernels, more = self.kernels, (dtype, activation_dtype, self.capabilities)
        return attention_kernels(
            spec,
            append=lambda one: kernels.append(one, *more),
            rotate=lambda one: kernels.rotate(one, *more),
            prefill=lambda one: kernels.prefill(one, *more),
            decode=lambda one: kernels.decode(one, *more),
        )

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        """TVM's own schedules for what is not a kernel of ours, such as residual additions."""
        rules = (
            dlight.gpu.Matmul(),
            dlight.gpu.GEMV(),
            dlight.gpu.Reduction(),
            dlight.gpu.GeneralReduction(),
            dlight.gpu.Fallback(),
        )
        return [dlight.ApplyDefaultSchedule(*rules)]
