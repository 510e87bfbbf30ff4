"""How long each kernel of a loaded model takes.

TVM's virtual machine shows every call that it makes to an instrument, which is slow in Python: the
kernels come so far apart that the processor cools down between them, and they take half as long
again. So the instrument only collects the kernels of a pass. At the last one it runs all of them
again, one right after the other, with a clock around each. They read and write what they did
before, in the same order, so that the pass gives the same result.

What the clock and a call from Python take by themselves, a quarter of a microsecond, is taken off.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.loaded_model import LoadedModel

ATTENTION = ("attention_prefill", "attention_decode")
"""What the names of the kernels begin with that attend, one in each layer."""

BUILTIN = "vm.builtin."
"""What the names of TVM's own functions begin with. They make shapes, views and tensors."""

_LEAVE_OUT, _GO_ON = 1, 0
_WARM_UP_SECONDS = 0.02
_LEAST_SECONDS = 1e-8
"""What stands for the time of a kernel that takes less than can be told from nothing."""

_IDLE_FUNCTION, _IDLE_ARGUMENTS = "testing.nop", 4
"""A function of tvm_ffi that does nothing, and how many tensors most kernels take."""


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
        layer: number of layers that have attended before in the pass.
        seconds: how long it took.
    """

    name: str
    tensors: tuple[TensorShape, ...]
    context: int
    layer: int
    seconds: float

    @property
    def is_attention(self) -> bool:
        """Whether queries meet keys and values in it."""
        return self.name.startswith(ATTENTION)


@contextmanager
def record_kernels(model: LoadedModel) -> Iterator[list[KernelCall]]:
    """Record the kernels that the model runs in the ``with`` block; in the engine's thread.

    Their times are those of kernels that come far apart; :func:`time_kernels` has better ones.

    Args:
        model: the model.

    Yields:
        The calls so far, in their order.
    """
    calls: list[KernelCall] = []
    clock = _Clock(model)

    def record(call: KernelCall, run: Callable[[], object]) -> None:
        calls.append(replace(call, seconds=clock.time(run)))

    with _observed(model, record):
        yield calls


def time_kernels(
    model: LoadedModel, run: Callable[[], object], repeat: int
) -> list[list[KernelCall]]:
    """Time the kernels of one step; in the engine's thread.

    Args:
        model: the model.
        run: the step: one pass, or the passes of several chunks. It is done twice, and must do the
            same both times.
        repeat: how often the kernels are timed.

    Returns:
        The calls of the step, in their order, as often as they were timed.
    """
    with record_kernels(model) as recorded:
        run()
    passes = itertools.groupby(recorded, key=lambda call: call.context)
    ends = set(itertools.accumulate(len([*calls]) for _, calls in passes))
    clock, seen = _Clock(model), itertools.count(1)
    steps: list[list[KernelCall]] = [[] for _ in range(repeat)]
    held: list[tuple[KernelCall, Callable[[], object]]] = []

    def collect(call: KernelCall, kernel: Callable[[], object]) -> None:
        kernel()
        held.append((call, kernel))
        # While the pass is not over, the KV cache still expects these tokens.
        if next(seen) in ends:
            clock.replay(held, steps)
            held.clear()

    with _observed(model, collect):
        run()
    return steps


def time_alike(model: LoadedModel, run: Callable[[], object], repeat: int) -> list[KernelCall]:
    """Time the kernels of one pass, those that are alike in a row; in the engine's thread.

    To wait for each kernel costs a GPU as much time as a small one takes. Here all calls of a
    kernel in a pass, which read weights and pages of their own, are made without waits between
    them, and each gets an equal share of the time.

    Args:
        model: the model.
        run: one pass.
        repeat: how often the kernels are timed; the least time counts.

    Returns:
        The calls of the pass, in their order.
    """
    held: list[tuple[KernelCall, Callable[[], object]]] = []

    def collect(call: KernelCall, kernel: Callable[[], object]) -> None:
        kernel()
        held.append((call, kernel))

    with _observed(model, collect):
        run()
    alike: dict[tuple[str, tuple[TensorShape, ...]], list[int]] = {}
    for number, (call, _) in enumerate(held):
        alike.setdefault((call.name, call.tensors), []).append(number)
    clock, seconds = _Clock(model), [0.0] * len(held)
    for numbers in alike.values():
        kernels = [held[number][1] for number in numbers]
        least = min(clock.time(partial(_call_all, kernels)) for _ in range(repeat))
        for number in numbers:
            seconds[number] = least / len(numbers)
    return [replace(call, seconds=one) for (call, _), one in zip(held, seconds, strict=True)]


class _Clock:
    """Times functions; on a device that computes while the host goes on, it waits for them."""

    def __init__(self, model: LoadedModel) -> None:
        waits = not on_host(model.device)
        self._wait: Callable[[], object] = model.device.sync if waits else _nothing
        self._overhead = 0.0
        self._overhead = min(map(self.time, [_idle_call()] * 1000))

    def time(self, run: Callable[[], object]) -> float:
        """Run, and return the seconds that it took; more than 0."""
        self._wait()
        begin = time.perf_counter()
        run()
        self._wait()
        return max(time.perf_counter() - begin - self._overhead, _LEAST_SECONDS)

    def replay(
        self,
        kernels: Sequence[tuple[KernelCall, Callable[[], object]]],
        steps: Sequence[list[KernelCall]],
    ) -> None:
        """Run the kernels until the processor is warm, then once for each step, which they join."""
        begin = time.perf_counter()
        while time.perf_counter() - begin < _WARM_UP_SECONDS:
            for _, kernel in kernels:
                kernel()
        for step in steps:
            seconds = [self.time(kernel) for _, kernel in kernels]
            step += [
                replace(call, seconds=one) for (call, _), one in zip(kernels, seconds, strict=True)
            ]


@contextmanager
def _observed(
    model: LoadedModel, observe: Callable[[KernelCall, Callable[[], object]], None]
) -> Iterator[None]:
    """Let ``observe`` do the calls of kernels in the ``with`` block.

    Args:
        model: the model.
        observe: gets a call that took no time yet, and what does it.
    """
    from tvm.runtime import Tensor
    from tvm_ffi import Function

    attended, context = 0, -1

    def instrument(function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> int:
        nonlocal attended, context
        if not before or not isinstance(function, Function) or name.startswith(BUILTIN):
            return _GO_ON
        tensors = tuple(
            TensorShape(tuple(map(int, argument.shape)), str(argument.dtype))
            for argument in arguments
            if isinstance(argument, Tensor)
        )
        if _only_sizes(tensors):
            return _GO_ON
        if context != model.length:
            attended, context = 0, model.length
        call = KernelCall(name, tensors, context, attended, 0.0)
        attended += call.is_attention
        observe(call, lambda: function(*arguments))
        return _LEAVE_OUT

    with model.library.instrumented(instrument):
        yield


def _only_sizes(tensors: tuple[TensorShape, ...]) -> bool:
    """Whether a function computes sizes of tensors, which the machine keeps in one vector."""
    return all(tensor.dtype == "int64" and len(tensor.shape) == 1 for tensor in tensors)


def _idle_call() -> Callable[[], object]:
    """The call of a function that does nothing, on as many tensors as a kernel's."""
    from tvm.runtime import empty
    from tvm_ffi import get_global_func

    function = get_global_func(_IDLE_FUNCTION, allow_missing=True) or _nothing
    arguments = [empty((1,), "float32") for _ in range(_IDLE_ARGUMENTS)]
    return lambda: function(*arguments)


def _call_all(functions: Sequence[Callable[[], object]]) -> None:
    for function in functions:
        function()


def _nothing(*_: object) -> None:
    pass
