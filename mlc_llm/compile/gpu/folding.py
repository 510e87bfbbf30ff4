"""What the kernel of a product computes besides: each fold saves a launch and a way to memory.

======================== ========================= =============================================
before or after          folded where              by
======================== ========================= =============================================
an RMS norm of x         there is one row, and the `NormedRows`, which a product takes in
                         backend has a kernel
                         (``folds_norm``)
a gated activation of y  y is used by nothing else `ProductRows`, which the activation takes in
a residual added to y    its shape and dtype are   the model, which hands it to the linear layer
                         those of y
======================== ========================= =============================================

So that a layer knows what follows it, norms and products are deferred: what is not folded is
computed by a kernel of its own when its tensor is asked for. Two products of the same norm both
take it in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm.relax.frontend import nn

from mlc_llm.compile.deferred import Deferred
from mlc_llm.compile.gpu.kernels.norm import RMSNormKind
from mlc_llm.model.layers import ActivationName


class NormedRows(Deferred):
    """Rows that an RMS norm makes.

    Args:
        kind: the norm.
        arguments: x (m, k) and the norm's weight (k,).
        compute: emits the norm's own kernel.
    """

    def __init__(
        self,
        kind: RMSNormKind,
        arguments: tuple[nn.Tensor, nn.Tensor],
        compute: Callable[[], nn.Tensor],
    ) -> None:
        x, _ = arguments
        super().__init__(x.shape, x.dtype, compute)
        self.kind, self.arguments = kind, arguments


class ProductRows(Deferred):
    """Rows that a product makes.

    Args:
        shape: their number and their columns.
        dtype: their dtype.
        compute: emits the product, with a gated activation of its rows if one is named.
    """

    def __init__(
        self,
        shape: Sequence[Any],
        dtype: str,
        compute: Callable[[ActivationName | None], nn.Tensor],
    ) -> None:
        super().__init__(shape, dtype, lambda: compute(None))
        self._gated = compute

    def gated(self, name: ActivationName) -> nn.Tensor | None:
        """The activation of the rows; None where it cannot be folded.

        They are then computed already, or it is not known how many columns there are.
        """
        known = isinstance(self.shape[1], int)
        return self._gated(name) if known and self._tensor is None else None
