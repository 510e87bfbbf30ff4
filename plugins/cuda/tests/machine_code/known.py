"""What is known to be worse than it should be in the machine code of models' kernels, and why.

An entry applies to kernels, quantisations and GPUs; where it applies, the failure must be there: an
entry of what was repaired fails its test, and is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

SPILLS = "keeps values of a thread in local memory"
NARROW = "loads 2 bytes of global memory at a time"

ALL = "*"


@dataclass(frozen=True)
class Known:
    """A failure that is expected.

    Args:
        failure: which one.
        kernels: names without numbers, as ``gemv``.
        reason: why it is so.
        quantizations: where; :data:`ALL` for each.
        architectures: where; :data:`ALL` for each.
    """

    failure: str
    kernels: frozenset[str]
    reason: str
    quantizations: frozenset[str] = frozenset({ALL})
    architectures: frozenset[str] = frozenset({ALL})

    def applies(self, quantization: str, architecture: str) -> bool:
        """Whether it does to the kernels of a model on a GPU."""
        return bool(
            self.quantizations & {ALL, quantization} and self.architectures & {ALL, architecture}
        )


KNOWN: tuple[Known, ...] = ()


def expected(quantization: str, architecture: str) -> set[tuple[str, str]]:
    """The failures of a model's kernels, as (kernel, failure)."""
    applying = (one for one in KNOWN if one.applies(quantization, architecture))
    return {(kernel, one.failure) for one in applying for kernel in one.kernels}
