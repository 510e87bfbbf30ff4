"""Rows that are computed when they are used, so that a linear layer can compute them itself.

A norm and a gated activation only say what they would compute. When what takes the result is a
linear layer of the CPU, its kernel computes the rows as it reads them (`kernels/rows.py`); anything
else asks for the tensor, and then the kernel that computes it alone is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.relax.frontend import nn

from mlc_llm.compile.deferred import Deferred
from mlc_llm.device.cpu.kernels.rows import PLAIN, RowKind


@dataclass(frozen=True)
class LinearInput:
    """What a linear kernel multiplies.

    Args:
        rows: how its rows are made.
        arguments: of what: x, and the norm's weight.
    """

    rows: RowKind
    arguments: tuple[nn.Tensor, ...]

    @staticmethod
    def of(x: nn.Tensor) -> LinearInput:
        """Take a deferred computation over; anything else is multiplied as it is."""
        return x.input if isinstance(x, DeferredRows) else LinearInput(PLAIN, (x,))

    @property
    def tokens(self) -> Any:
        """Number of rows."""
        return self.arguments[0].shape[0]

    @property
    def dtype(self) -> str:
        """dtype of x."""
        return str(self.arguments[0].dtype)


class DeferredRows(Deferred):
    """Rows that a linear kernel can compute itself.

    Args:
        input: what a linear kernel takes in their place.
        columns: elements of a row.
        compute: emits the kernel that computes them alone.
    """

    def __init__(self, input: LinearInput, columns: int, compute: Callable[[], nn.Tensor]) -> None:
        super().__init__((input.tokens, columns), input.dtype, compute)
        self.input = input
