"""How long each kernel of a loaded model takes.

TVM's virtual machine shows every call that it makes to an instrument. The instrument here makes the
calls of kernels itself, with a clock around them, so that what it costs stays outside the times: a
call from Python adds less than a microsecond to a kernel's time. Everything between the kernels is
slower while it looks on; take that from passes that nobody looks at.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlc_llm.runtime.loaded_model import LoadedModel

ATTENTION = "attention_kv_cache_attention"
"""What the names of the KV cache's own attention functions begin with, after ``BUILTIN``."""

BUILTIN = "vm.builtin."
"""What the names of TVM's own functions begin with. They make shapes, views and tensors."""

_LEAVE_OUT, _GO_ON = 1, 0
_HOST_DEVICE_TYPE = 1  # DLPack's kDLCPU


@dataclass(frozen=True)
class TensorShape:
    """The shape and dtype of a kernel's argument."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel.

    Args:
        name: the function's name in the library; equal kernels for other shapes end with another
            number.
        tensors: its tensor arguments in their order, the results last.
        context: tokens that the KV cache held before the pass.
        seconds: how long it took.
    """

    name: str
    tensors: tuple[TensorShape, ...]
    context: int
    seconds: float

    @property
    def is_attention(self) -> bool:
        """Whether it is the KV cache's attention, with all that belongs to it.

        One call rotates queries and keys, puts keys and values into the cache, and attends.
        """
        return self.name.startswith(BUILTIN + ATTENTION)


@contextmanager
def record_kernels(model: LoadedModel) -> Iterator[list[KernelCall]]:
    """Record the kernels that the model runs in the ``with`` block; in the engine's thread.

    On a device that computes while the host goes on, each call is waited for.

    Args:
        model: the model.

    Yields:
        The calls so far, in their order.
    """
    from tvm.runtime import Tensor
    from tvm_ffi import Function

    calls: list[KernelCall] = []
    on_host = model.device.dlpack_device_type() == _HOST_DEVICE_TYPE
    wait = _nothing if on_host else model.device.sync

    def instrument(function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> int:
        if not before or not isinstance(function, Function):
            return _GO_ON
        if name.startswith(BUILTIN) and not name.startswith(BUILTIN + ATTENTION):
            return _GO_ON
        tensors = tuple(
            TensorShape(tuple(map(int, argument.shape)), str(argument.dtype))
            for argument in arguments
            if isinstance(argument, Tensor)
        )
        if _only_sizes(tensors):
            return _GO_ON
        wait()
        begin = time.perf_counter()
        function(*arguments)
        wait()
        seconds = time.perf_counter() - begin
        calls.append(KernelCall(name, tensors, model.length, seconds))
        return _LEAVE_OUT

    with model.library.instrumented(instrument):
        yield calls


def _only_sizes(tensors: tuple[TensorShape, ...]) -> bool:
    """Whether a function computes sizes of tensors, which the machine keeps in one vector."""
    return all(tensor.dtype == "int64" and len(tensor.shape) == 1 for tensor in tensors)


def _nothing() -> None:
    pass
