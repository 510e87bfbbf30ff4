"""What a linear kernel multiplies: rows that it makes of its first arguments as it reads them.

    plain     x (m, k)                          the rows of x as they are
    norms     x (m, k), a weight, a bias        see `norm.py`
    gated     x (m, 2 k)                        a function of the left half times the right half
    activated x (m, k)                          a function of each element; see `activation.py`

A row is computed where the kernel would read it, so that it is never written to memory and costs no
launch of its own. Where no linear kernel takes the rows, `rows_kernel` writes them, and where they
are added to something, `added_rows_kernel` writes the sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

from tvm.tirx import PrimFunc

from .isa import Isa
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    each_token,
    f32,
    i64,
    kernel,
    load_f32,
    parallel,
    serial,
    size,
    store_f32,
)

Read = Callable[[Expr, int], Expr]
"""(element, lanes) -> `lanes` consecutive elements of one row as float32."""


class RowKind(ABC):
    """How a kernel's rows are made of its arguments. Kinds compare by value: kernels are cached.

    Attributes:
        together: vectors that are made side by side: 1, or more where each is a long chain of
            operations, so that a CPU has others to go on with.
    """

    together: ClassVar[int] = 1

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the kernel that only computes such rows."""

    def width(self, k: int) -> int:
        """Columns of x, for rows of k elements."""
        return k

    def weights(self) -> Mapping[str, str]:
        """Name and dtype of each argument (k,) that follows x."""
        return {}

    @abstractmethod
    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        """Emit what a row needs before it can be read, and return how to read it."""

    def arguments(self, tokens: Expr, k: int, dtype: str) -> InputRows:
        """Declare the kernel's first arguments: x `dtype`, and the weights."""
        x = argument("x", (tokens, self.width(k)), dtype)
        weights = {name: argument(name, (k,), of) for name, of in self.weights().items()}
        return InputRows(self, k, x, weights)


@dataclass(frozen=True)
class InputRows:
    """Rows of `k` elements in a kernel, which reads them."""

    kind: RowKind
    k: int
    x: Buffer
    weights: Mapping[str, Buffer] = field(default_factory=dict)

    @staticmethod
    def plain(x: Buffer) -> InputRows:
        """The rows of a matrix (m, k) as they are."""
        return InputRows(PLAIN, int(x.shape[1]), x)

    def reader(self, row: Expr, lanes: int) -> Read:
        """Emit what a row needs before it can be read, and return how to read it."""
        return self.kind.reader(self, row, lanes)

    def elements(self, row: Expr) -> Read:
        """How to read a row of x itself."""
        return lambda at, n: load_f32(self.x, (row, at), n)

    def copy(self, row: Expr, out: Buffer, out_row: Expr, lanes: int) -> None:
        """out[out_row, :] = the row, and 0 from k to the width of `out`."""
        read, width = self.reader(row, lanes), int(out.shape[1])
        each_vector(
            self.k,
            lanes * self.kind.together,
            lambda at, n: store_f32(out, (out_row, at), bind(read(at, n)), n),
        )
        for j in range(self.k, width):
            store_f32(out, (out_row, i64(j)), f32(0), 1)


def each_vector(k: int, lanes: int, body: Callable[[Expr, int], None]) -> None:
    """body(element, lanes of the vector from there on) for all k elements, each in one vector."""
    if k >= lanes:
        with serial(k // lanes) as j:
            body(j * lanes, lanes)
    for at, n in left_over(k, lanes):
        body(i64(at), n)


def left_over(k: int, lanes: int) -> Iterator[tuple[int, int]]:
    """The vectors for what a loop over k // lanes vectors leaves of k elements.

    Yields:
        The first element and the lanes of each: every power of two at most once.
    """
    at = k - k % lanes
    while at < k:
        lanes //= 2
        if at + lanes <= k:
            yield at, lanes
            at += lanes


@dataclass(frozen=True)
class _Plain(RowKind):
    """The rows of x as they are."""

    @property
    def name(self) -> str:
        return "copy_rows"

    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        return rows.elements(row)


PLAIN = _Plain()


@cache
def rows_kernel(rows: RowKind, k: int, dtype: str, isa: Isa) -> PrimFunc:
    """The rows by themselves, for when no linear kernel takes them.

    Arguments of the kernel: those of `rows`, with x `dtype`, and y (m, k) `dtype`.
    """
    with kernel(rows.name) as built:
        tokens = size()
        made = rows.arguments(tokens, k, dtype)
        y = argument("y", (tokens, k), dtype)
        with parallel(tokens) as row:
            made.copy(row, y, row, isa.lanes)
    return built.get()


@cache
def added_rows_kernel(rows: RowKind, k: int, dtype: str, isa: Isa) -> PrimFunc:
    """The rows added to a residual.

    Arguments of the kernel: those of `rows`, with x `dtype`; a residual and y (m, k) `dtype`.
    """
    with kernel(f"{rows.name}_add") as built:
        tokens = size()
        made = rows.arguments(tokens, k, dtype)
        residual, y = (argument(name, (tokens, k), dtype) for name in ("residual", "y"))

        def add(row: Expr) -> None:
            read = made.reader(row, isa.lanes)

            def put(at: Expr, n: int) -> None:
                store_f32(y, (row, at), bind(load_f32(residual, (row, at), n) + read(at, n)), n)

            each_vector(k, isa.lanes, put)

        each_token(tokens, add)
    return built.get()
