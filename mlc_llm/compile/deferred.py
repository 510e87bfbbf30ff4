"""Tensors that are computed when they are used, so that what uses one may compute it itself.

A layer that returns one says what it would compute. The layer that takes it may do that work within
its own kernel; anything else asks for the tensor, and then it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.relax.frontend import nn


class Deferred(nn.Tensor):
    """A tensor that is computed, once, when its expression is asked for.

    What it is computed of must still hold the same values then. A model keeps to that: only what
    attention takes is changed in place, and nothing else uses it.

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
