"""The CPU's compiler half: lowers a model's layers to the kernels under ``kernels/``.

Activations, queries among them, are float32 whatever the weights are stored in; keys and values are
in the model's own dtype. Linear weights and token embeddings are repacked at load into blocks of 16
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm

from mlc_llm.device.cpu.attention import cpu_attention_kernels
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.lowering import CPULowering
from mlc_llm.device.cpu.schedule import ScheduleRest
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Plan, Repack


class CPUCodegen:
    """Compiles for one CPU target."""

    rows_agree = True

    def __init__(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> None:
        self.isa = Isa.of(tvm.target.Target(dict(target)))
        self.activations = opt.get("activations", "mixed")

    def activation_dtype(self, model_dtype: str) -> str:
        return "float32"

    def lower(self, model: Module, plan: Plan, phase: Phase) -> tuple[Module, list[Repack]]:
        mixed = {"prefill": "a8", "decode": "a16"}[phase]
        activations = mixed if self.activations == "mixed" else self.activations
        lowering = CPULowering(plan, self.isa, activations)
        return lowering.lower(model), lowering.steps

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        return cpu_attention_kernels(spec, dtype, activation_dtype, self.isa)

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        return [ScheduleRest(self.isa.lanes)]
