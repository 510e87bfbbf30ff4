"""Checks of packed kernels: what a case is, and how it is packed in one place and run in another.

A case makes arguments from a seed, asks for a kernel, runs it, and compares with NumPy. Where the
bundle is packed, running stops at the kernel, which is compiled; where the bundle is used, asking
for the kernel gives nothing, and what was packed under the case's name is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

Case = Callable[[Any, "Run", np.random.Generator], None]
"""A check; it is given what makes kernels, what runs one, and random numbers.

It calls the latter once, with the kernel and NumPy arrays, which then have the results.
"""

Run = Callable[..., None]


class _Collected(Exception):
    """The kernel of a case is known."""


class NoKernels:
    """Stands for what makes kernels, where there is no compiler: every kernel is None."""

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
    found: list[Any] = []

    def collect(kernel: Any, *arguments: Any) -> None:
        found.append(kernel)
        raise _Collected

    with suppress(_Collected):
        case(kernels, collect, _random())
    return found[0]


def check(case: Case, function: Any, device: Any) -> None:
    """Run a case's kernel on a device.

    Args:
        case: the case.
        function: the packed kernel.
        device: TVM's device.

    Raises:
        AssertionError: a result is wrong.
    """
    from tvm.runtime import tensor

    def run(_: Any, *arguments: Any) -> None:
        arrays = {i: a for i, a in enumerate(arguments) if isinstance(a, np.ndarray)}
        given = {i: tensor(np.ascontiguousarray(a), device) for i, a in arrays.items()}
        function(*(given.get(i, argument) for i, argument in enumerate(arguments)))
        for i, array in arrays.items():
            array[...] = given[i].numpy()

    case(NoKernels(), run, _random())


def check_all(cases: Mapping[str, Case], library: Any, device: Any) -> Iterator[tuple[str, str]]:
    """Run cases one after the other; yields their names, and what is wrong, or nothing.

    Args:
        cases: by the names of their kernels in the library.
        library: the library, opened.
        device: TVM's device.
    """
    for name, case in cases.items():
        try:
            check(case, library[name], device)
        except AssertionError as error:
            yield name, " ".join(str(error).split())[:200] or "a result is wrong"
        else:
            yield name, ""


def _random() -> np.random.Generator:
    return np.random.default_rng(20261129)
