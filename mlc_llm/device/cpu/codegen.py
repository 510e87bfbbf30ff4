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
from mlc_llm.model.layers import Embedding
from mlc_llm.model.module import Module, computes_as, named_modules
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Plan, Repack

SMALL = 1024
"""Hidden size below which a model is small: of SmolLM2-135M, which has 576, answers go wrong when
prompts are rounded to 8 bits (``docs/cpu.md``). It reads prompts fast in 16 bits, too."""


class CPUCodegen:
    """Compiles for one CPU target."""

    rows_agree = True

    def __init__(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> None:
        self.isa = Isa.of(tvm.target.Target(dict(target)))
        self.activations = opt.get("activations", "auto")

    def activation_dtype(self, model_dtype: str) -> str:
        return "float32"

    def lower(self, model: Module, plan: Plan, phase: Phase) -> tuple[Module, list[Repack]]:
        lowering = CPULowering(plan, self.isa, self._rounding(model, phase))
        return lowering.lower(model), lowering.steps

    def _rounding(self, model: Module, phase: Phase) -> str:
        """How a phase rounds activations: "a8" or "a16"."""
        if self.activations in ("a8", "a16"):
            return self.activations
        exact = phase == "decode" or (self.activations == "auto" and _is_small(model))
        return "a16" if exact else "a8"

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        return cpu_attention_kernels(spec, dtype, activation_dtype, self.isa)

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        return [ScheduleRest(self.isa.lanes)]


def _is_small(model: Module) -> bool:
    """Whether the embeddings, and so the hidden states, have fewer columns than :data:`SMALL`."""
    layers = [layer for _, layer in named_modules(model) if computes_as(layer, Embedding)]
    return bool(layers) and max(layer.dim for layer in layers) < SMALL
