"""What is known to be worse than it should be in the machine code of models' kernels, and why.

An entry applies to a kernel, to quantisations, GPUs and shapes; where it applies, the failure must
be there: an entry of what was repaired fails its test, and is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

SPILLS = "keeps values of a thread in local memory"
NARROW = "loads 2 bytes of global memory at a time"

HALVES = frozenset({"q0f16", "q3f16_1", "q4f16_0", "q4f16_1", "q4f16_m", "q8f16_16", "q8f16_32"})
"""Quantisations whose activations are float16."""
FLOATS = frozenset({"q0f32", "q4f32_1"})
EVERY = HALVES | FLOATS

NEWER = frozenset({"80", "86", "89", "90", "100", "120"})
"""GPUs that have kernels in CUDA C."""
GPUS = NEWER | {"75"}
SHAPES = frozenset({"llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.1", "tinyllama-1.1b"})

SHARED = "the kernel that GPUs share reads halves one by one"


@dataclass(frozen=True)
class Known:
    """A failure that is expected.

    Args:
        failure: which one.
        kernel: its name without a number, as ``gemv``.
        reason: why it is so.
        quantizations: where.
        gpus: where, as compute capabilities.
        shapes: where, by their names in :mod:`benchmarks.shapes`.
    """

    failure: str
    kernel: str
    reason: str
    quantizations: frozenset[str] = EVERY
    gpus: frozenset[str] = GPUS
    shapes: frozenset[str] = SHAPES


def these(*names: str) -> frozenset[str]:
    """Some quantisations, GPUs or shapes."""
    return frozenset(names)


KNOWN = (
    Known(NARROW, "attention_decode", SHARED, HALVES, these("75")),
    Known(NARROW, "attention_prefill", SHARED, HALVES, these("75")),
    Known(NARROW, "gemv", SHARED, HALVES, these("75")),
    Known(NARROW, "matmul", SHARED, HALVES, these("75")),
    Known(NARROW, "gemv", f"of transposed weights, {SHARED}", these("q4f16_0"), NEWER),
    Known(
        NARROW,
        "matmul",
        f"of transposed weights, and any vocabulary, {SHARED}",
        these("q4f16_0"),
        NEWER,
    ),
    Known(
        NARROW,
        "gemv",
        "rows of an odd number of groups have scales that begin within a word",
        these("q3f16_1"),
        NEWER,
    ),
    Known(
        SPILLS,
        "q4_matmul",
        "of few tokens and 5632 columns: 16 bytes or less do not fit into 128 registers",
        these("q4f16_1"),
        these("100", "120"),
        these("tinyllama-1.1b"),
    ),
)


def expected(shape: str, quantization: str, gpu: str) -> set[tuple[str, str]]:
    """The failures of a model's kernels, as (kernel, failure)."""
    return {
        (one.kernel, one.failure)
        for one in KNOWN
        if shape in one.shapes and quantization in one.quantizations and gpu in one.gpus
    }
