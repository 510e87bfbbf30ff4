"""Token ids on their way to a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc_llm.runtime.placement import on_host

if TYPE_CHECKING:
    import tvm


class TokenInput:
    """Makes tensors of token ids.

    Decoding passes one token after another; they all use one tensor, which costs a tenth of a new
    one. So what is made of a single token is valid until the next one comes.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: tvm.runtime.Device) -> None:
        from tvm.runtime import empty

        self._device = device
        self._single = empty((1,), "int32", device)
        self._on_host = on_host(device)
        self._value = np.from_dlpack(self._single) if self._on_host else np.empty(1, np.int32)

    def tensor(self, ids: Sequence[int]) -> Any:
        """The ids as a tensor (len(ids),) of int32."""
        if len(ids) == 1:
            self._value[0] = ids[0]
            return self._single if self._on_host else self._single.copyfrom(self._value)
        from tvm.runtime import tensor

        return tensor(np.asarray(ids, dtype=np.int32), self._device)
