"""The compiler half that GPUs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import tvm
from tvm.s_tir import dlight

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
        # What a kernel does not depend on is the same for all layers.
        own = spec.keys_of is None
        spec = replace(spec, keys_of=None if own else 0)  # of whichever layer the keys are
        stored = replace(spec, scale=1.0, window=None, sink=0, sink_logits=False, soft_cap=None)
        attended = replace(spec, rope=None)
        kernels, more = self.kernels, (dtype, activation_dtype, self.capabilities)
        rotates = not own and spec.rope is not None
        return AttentionKernels(
            append=kernels.append(stored, *more) if own else None,
            rotate=kernels.rotate(stored, *more) if rotates else None,
            prefill=kernels.prefill(attended, *more),
            decode=kernels.decode(attended, *more),
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
