"""Checks of packed kernels: what a case is, and how it is packed in one place and run in another.

A case makes arguments from a seed, asks for a kernel, runs it, and compares with NumPy. Where the
bundle is packed, running stops at the kernel, which is compiled; where the bundle is used, asking
for the kernel gives nothing, and what was packed under the case's name is run. Buffers that only
the kernel knows of, its scratch memory, are packed as their shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np

Case = Callable[[Any, "Run", np.random.Generator], None]
"""A check; it is given what makes kernels, what runs one, and random numbers.

It calls the latter once, with the kernel and NumPy arrays, which then have the results.
"""

Run = Callable[..., None]

Scratch = Sequence[tuple[Sequence[int], str]]
"""Shapes and dtypes of the buffers that a kernel takes after a case's arguments."""


class _Collected(Exception):
    """The call of a case is known."""


class NoKernels:
    """Stands for what makes kernels, where there is no compiler: every kernel is this.

    Args:
        params: a kernel's parameters, of which nothing is known.
    """

    params: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self


def kernel_of(case: Case, kernels: Any) -> Any:
    """The kernel that a case asks for.

    Args:
        case: the case.
        kernels: what makes kernels.
    """
    return _call_of(case, kernels)[0]


def scratch_of(case: Case, kernels: Any) -> Scratch:
    """The buffers that a case's kernel takes beyond the case's own arguments.

    Args:
        case: the case.
        kernels: what makes kernels.
    """
    own = len(_call_of(case, NoKernels()))
    return [(array.shape, str(array.dtype)) for array in _call_of(case, kernels)[own:]]


def _call_of(case: Case, kernels: Any) -> tuple[Any, ...]:
    """The kernel that a case runs, and its arguments."""
    found: list[tuple[Any, ...]] = []

    def collect(*call: Any) -> None:
        found.append(call)
        raise _Collected

    with suppress(_Collected):
        case(kernels, collect, _random())
    return found[0]


def check(case: Case, function: Any, device: Any, scratch: Scratch = ()) -> None:
    """Run a case's kernel on a device.

    Args:
        case: the case.
        function: the packed kernel.
        device: TVM's device.
        scratch: the kernel's buffers after the case's arguments.

    Raises:
        AssertionError: a result is wrong.
    """
    from tvm.runtime import empty, tensor

    def run(_: Any, *arguments: Any) -> None:
        arrays = {i: a for i, a in enumerate(arguments) if isinstance(a, np.ndarray)}
        given = {i: tensor(np.ascontiguousarray(a), device) for i, a in arrays.items()}
        own = [given.get(i, argument) for i, argument in enumerate(arguments)]
        function(*own, *(empty(tuple(shape), dtype, device) for shape, dtype in scratch))
        for i, array in arrays.items():
            array[...] = given[i].numpy()

    case(NoKernels(), run, _random())


def check_all(
    cases: Mapping[str, Case],
    library: Any,
    device: Any,
    scratch: Mapping[str, Scratch] = MappingProxyType({}),
) -> Iterator[tuple[str, str]]:
    """Run cases one after the other; yields their names, and what is wrong, or nothing.

    Args:
        cases: by the names of their kernels in the library.
        library: the library, opened.
        device: TVM's device.
        scratch: the buffers of those kernels that need any, by their names.
    """
    for name, case in cases.items():
        try:
            check(case, library[name], device, scratch.get(name, ()))
        except AssertionError as error:
            yield name, " ".join(str(error).split())[:200] or "a result is wrong"
        else:
            yield name, ""


def _random() -> np.random.Generator:
    return np.random.default_rng(20261129)
