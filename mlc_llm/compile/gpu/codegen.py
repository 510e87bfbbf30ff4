"""The compiler half that GPUs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm.relax.frontend import nn
from tvm.s_tir import dlight

from mlc_llm.compile.gpu.attention import attention_kernels
from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.lowering import lower
from mlc_llm.errors import ConfigError, unknown
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Repack


class GPUCodegen:
    """Compiles for one GPU target; a ``DeviceCodegen``.

    Args:
        facts: the GPU's limits.
        opt: compilation options by name; there are none yet.

    Raises:
        ConfigError: an option is given.
    """

    rows_agree = False  # Products with one row are summed in another order than with many.

    def __init__(self, facts: GPUFacts, opt: Mapping[str, str]) -> None:
        for name in opt:
            raise ConfigError(unknown("compilation option", name, ()))
        self.facts = facts

    def activation_dtype(self, model_dtype: str) -> str:
        return model_dtype

    def lower(self, model: nn.Module, phase: Phase) -> tuple[nn.Module, list[Repack]]:
        return lower(model, self.facts)

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        return attention_kernels(spec, dtype, activation_dtype, self.facts)

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        """TVM's own schedules for what is no kernel of ours, such as residual additions."""
        rules = (
            dlight.gpu.Matmul(),
            dlight.gpu.GEMV(),
            dlight.gpu.Reduction(),
            dlight.gpu.GeneralReduction(),
            dlight.gpu.Fallback(),
        )
        return [dlight.ApplyDefaultSchedule(*rules)]
