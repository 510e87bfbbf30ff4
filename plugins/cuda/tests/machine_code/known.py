"""What is known to be worse than it should be in the machine code of models' kernels, and why.

An entry applies to kernels, quantisations and GPUs; where it applies, the failure must be there: an
entry of what was repaired fails its test, and is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

SPILLS = "keeps values of a thread in local memory"
NARROW = "loads 2 bytes of global memory at a time"

HALVES = frozenset({"q0f16", "q3f16_1", "q4f16_0", "q4f16_1", "q4f16_m", "q8f16_16", "q8f16_32"})
"""Quantisations whose activations are float16."""
FLOATS = frozenset({"q0f32", "q4f32_1"})
EVERY = HALVES | FLOATS
Q4 = frozenset({"q4f16_1"})

NEWER = frozenset({"80", "86", "89", "90", "100", "120"})
"""GPUs that have kernels in CUDA C."""
GPUS = NEWER | {"75"}

SHARED = "the kernel that GPUs share reads halves one by one"
REGISTERS = "the kernel that GPUs share needs more registers than NVRTC gives it"


@dataclass(frozen=True)
class Known:
    """A failure that is expected.

    Args:
        failure: which one.
        kernels: names without numbers, as ``gemv``.
        reason: why it is so.
        quantizations: where.
        gpus: where, as compute capabilities.
    """

    failure: str
    kernels: frozenset[str]
    reason: str
    quantizations: frozenset[str] = EVERY
    gpus: frozenset[str] = GPUS


KNOWN = (
    Known(NARROW, frozenset({"attention_decode", "attention_prefill"}), SHARED, HALVES),
    Known(NARROW, frozenset({"gemv", "matmul"}), SHARED, HALVES - Q4),
    Known(NARROW, frozenset({"gemv", "matmul"}), SHARED, Q4, frozenset({"75"})),
    Known(NARROW, frozenset({"q4_matmul"}), f"of more than 16 tokens, {SHARED}", Q4, NEWER),
    Known(
        SPILLS,
        frozenset({"attention_append"}),
        "CUDA's sine of very large angles has an array",
        gpus=frozenset({"75", "86", "90"}),
    ),
    Known(
        SPILLS,
        frozenset({"attention_prefill"}),
        REGISTERS,
        HALVES,
        frozenset({"80", "86", "89"}),
    ),
    Known(SPILLS, frozenset({"matmul"}), REGISTERS, frozenset({"q3f16_1"}), frozenset({"90"})),
    Known(SPILLS, frozenset({"q4_matmul"}), REGISTERS, Q4, frozenset({"86", "89"})),
)


def expected(quantization: str, gpu: str) -> set[tuple[str, str]]:
    """The failures of a model's kernels, as (kernel, failure)."""
    return {
        (kernel, one.failure)
        for one in KNOWN
        if quantization in one.quantizations and gpu in one.gpus
        for kernel in one.kernels
    }
