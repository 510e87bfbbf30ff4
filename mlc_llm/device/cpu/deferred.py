"""Tensors that are computed when they are used, so that a linear layer can take their place.

A norm and an activation only say what they would compute. When what takes the result is a linear
layer of the CPU, its kernel computes the rows as it reads them (`kernels/rows.py`); anything else
asks for the tensor, and then the kernel that computes it alone is called. A linear layer's result
is deferred too, until it is known whether it is added to a residual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm.relax.frontend import nn

from mlc_llm.device.cpu.kernels.rows import PLAIN, RowsOf


class Deferred(nn.Tensor):
    """A tensor that is computed when its expression is asked for.

    Args:
        shape: its shape.
        dtype: its dtype.
        compute: emits what computes it.
    """

    def __init__(self, shape: Sequence[Any], dtype: str, compute: Callable[[], nn.Tensor]) -> None:
        self._shape, self._dtype, self._compute = list(shape), dtype, compute
        self._tensor: nn.Tensor | None = None

    @property
    def _expr(self) -> Any:
        if self._tensor is None:
            self._tensor = self._compute()
        return self._tensor._expr

    @property
    def shape(self) -> list[Any]:
        return self._shape

    @property
    def dtype(self) -> str:
        return self._dtype


@dataclass(frozen=True)
class LinearInput:
    """What a linear kernel multiplies.

    Args:
        rows: how its rows are made.
        arguments: of what: x, and the norm's weight.
    """

    rows: RowsOf
    arguments: tuple[nn.Tensor, ...]

    @staticmethod
    def of(x: nn.Tensor) -> LinearInput:
        """Take a deferred computation over; anything else is multiplied as it is."""
        return x.input if isinstance(x, DeferredRows) else LinearInput(PLAIN, (x,))

    @property
    def tokens(self) -> Any:
        """How many rows there are."""
        return self.arguments[0].shape[0]

    @property
    def dtype(self) -> str:
        """Of x."""
        return str(self.arguments[0].dtype)


class DeferredRows(Deferred):
    """Rows that a linear kernel can compute itself."""

    def __init__(
        self,
        input: LinearInput,
        columns: int,
        compute: Callable[[], nn.Tensor],
    ) -> None:
        super().__init__((input.tokens, columns), input.dtype, compute)
        self.input = input


class Product(Deferred):
    """A linear layer's result, to which its kernel can add a residual.

    Args:
        compute: emits the kernel; takes the residual or None.
    """

    def __init__(
        self,
        shape: Sequence[Any],
        dtype: str,
        compute: Callable[[nn.Tensor | None], nn.Tensor],
    ) -> None:
        super().__init__(shape, dtype, lambda: compute(None))
        self._add = compute

    def __add__(self, other: Any) -> nn.Tensor:
        if self._takes(other):
            return self._add(other)
        return super().__add__(other)

    # Python asks the right operand first when its class is derived from that of the left one.
    __radd__ = __add__

    def _takes(self, other: Any) -> bool:
        return (
            self._tensor is None
            and isinstance(other, nn.Tensor)
            and other.dtype == self.dtype
            and len(other.shape) == len(self.shape)
            and all(map(tvm_ffi.structural_equal, other.shape, self.shape))
        )
