"""The CPU's compiler half: lowers a model's layers to the kernels under ``kernels/``.

Activations, queries among them, are float32 whatever the weights are stored in; keys and values are
in the model's own dtype. Linear weights and token embeddings are repacked at load into blocks of 16
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tvm

from mlc_llm.device.cpu.attention import attention_kernels
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.lowering import Lowering
from mlc_llm.device.cpu.schedule import ScheduleRest
from mlc_llm.errors import ConfigError, unknown
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Plan, Repack

OPTIONS: Mapping[str, tuple[str, ...]] = {"activations": ("mixed", "a16", "a8")}
"""Compilation options, the default first. ``activations`` says how products with quantised weights
round theirs: to 8 bits in the prefill and to 16 in the decode, which waits for the weights anyway
(mixed), to 16 bits everywhere (a16, slower in the prefill), or to 8 everywhere (a8, coarser).
``docs/decisions.md`` has what each costs."""


class CPUCodegen:
    """Compiles for one CPU target."""

    rows_agree = True

    def __init__(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> None:
        self.isa = Isa.of(tvm.target.Target(dict(target)))
        self.activations = _option(opt, "activations")

    def activation_dtype(self, model_dtype: str) -> str:
        return "float32"

    def lower(self, model: Module, plan: Plan, phase: Phase) -> tuple[Module, list[Repack]]:
        mixed = {"prefill": "a8", "decode": "a16"}[phase]
        activations = mixed if self.activations == "mixed" else self.activations
        lowering = Lowering(plan, self.isa, activations)
        return lowering.lower(model), lowering.steps

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        return attention_kernels(spec, dtype, activation_dtype, self.isa)

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        return [ScheduleRest(self.isa.lanes)]


def _option(opt: Mapping[str, str], name: str) -> str:
    for given in opt:
        if given not in OPTIONS:
            raise ConfigError(unknown("compilation option", given, OPTIONS))
    value = opt.get(name, OPTIONS[name][0])
    if value not in OPTIONS[name]:
        raise ConfigError(
            unknown(f"value of the compilation option {name!r}", value, OPTIONS[name])
        )
    return value
