"""The vocabulary that the kernels are written in: vectors, loops and arguments of a PrimFunc.

Everything here is called while a `kernel(...)` block is open and emits TIR into it. Loop variables
and sizes are int64, so that no index overflows. A value that is used twice must be bound (`bind`),
else its whole expression is emitted twice. `lanes == 1` stands for a scalar everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm.script.ir_builder import tirx as T
from tvm.tirx import IntImm

from mlc_llm.compile.kernel import Buffer, Expr, Frame, bind, i32
from mlc_llm.compile.kernel import kernel as kernel  # a word of this vocabulary, too


def i64(value: Expr) -> Expr:
    """`value` as an int64 expression."""
    return IntImm("int64", value) if isinstance(value, int) else T.Cast("int64", value)


def f32(value: float) -> Expr:
    """A float32 constant."""
    return T.float32(value)


def size(known: int | None = None) -> Expr:
    """A dimension: the constant when it is known, else a new int64 variable."""
    return i64(known) if known is not None else T.int64()


def argument(
    name: str, shape: Sequence[Expr], dtype: str = "float32", view: bool = False
) -> Buffer:
    """A tensor argument. `view` admits a tensor that starts inside its storage."""
    handle = T.arg(name, T.handle())
    offset = T.int64() if view else None
    return T.match_buffer(handle, tuple(shape), dtype, elem_offset=offset)


def scratch(shape: Sequence[Expr], dtype: str = "float32") -> Buffer:
    """Working memory: on the stack below 1 KB, else from TVM's workspace pool of the thread."""
    return T.alloc_buffer(tuple(i64(s) if isinstance(s, int) else s for s in shape), dtype)


def serial(extent: Expr) -> Frame:
    """A loop over 0 .. extent - 1."""
    extent = i64(extent) if isinstance(extent, int) else extent
    return T.serial(i64(0), extent)


def parallel(extent: Expr) -> Frame:
    """A loop that TVM divides into one contiguous range per thread."""
    extent = i64(extent) if isinstance(extent, int) else extent
    return T.parallel(i64(0), extent)


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """A block that runs only if `condition` holds."""
    with T.If(condition), T.Then():
        yield


def ceil_div(a: Expr, b: int) -> Expr:
    """a / b rounded up, for a >= 0."""
    return T.truncdiv(a + i64(b - 1), i64(b))


# --- vectors ---------------------------------------------------------------------------------


def vtype(dtype: str, lanes: int) -> str:
    """The name of a vector type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def splat(value: Expr, lanes: int) -> Expr:
    """A vector with `value` in every lane."""
    value = f32(value) if isinstance(value, float) else value
    return value if lanes == 1 else T.Broadcast(value, lanes)


def convert(value: Expr, dtype: str, lanes: int, source: str = "") -> Expr:
    """`value` converted lane by lane to `dtype`; nothing when it is of that type already."""
    return value if source == dtype else T.Cast(vtype(dtype, lanes), value)


def load(buffer: Buffer, index: Sequence[Expr], lanes: int) -> Expr:
    """`lanes` consecutive elements from `index` on, as they are stored."""
    return buffer[_span(index, lanes)]


def load_f32(buffer: Buffer, index: Sequence[Expr], lanes: int) -> Expr:
    """`lanes` consecutive elements from `index` on, as float32."""
    return convert(load(buffer, index, lanes), "float32", lanes, buffer.dtype)


def store(buffer: Buffer, index: Sequence[Expr], value: Expr, lanes: int) -> None:
    """Write a vector of the buffer's own type at `index`."""
    T.buffer_store(buffer, value, list(_span(index, lanes)))


def store_f32(buffer: Buffer, index: Sequence[Expr], value: Expr, lanes: int) -> None:
    """Write a float32 vector at `index`, converted to the buffer's type."""
    store(buffer, index, convert(value, buffer.dtype, lanes, "float32"), lanes)


def _span(index: Sequence[Expr], lanes: int) -> tuple[Expr, ...]:
    *outer, last = index
    return (*outer, last if lanes == 1 else T.ramp(last, 1, lanes))


def fold(combine: Callable[[Expr, Expr], Expr], vector: Expr, lanes: int) -> Expr:
    """All float32 lanes combined by a tree; LLVM makes a chain of its own reductions."""
    while lanes > 2:
        lanes //= 2
        half, vector = vtype("float32", lanes), bind(vector)
        vector = combine(T.vectorlow(half, vector), T.vectorhigh(half, vector))
    if lanes == 1:
        return vector
    vector = bind(vector)
    return combine(T.Shuffle([vector], [0]), T.Shuffle([vector], [1]))


def fold_sum(vector: Expr, lanes: int) -> Expr:
    """The sum of the lanes."""
    return fold(lambda a, b: a + b, vector, lanes)


def fold_max(vector: Expr, lanes: int) -> Expr:
    """The largest lane."""
    return fold(T.max, vector, lanes)


def fold_sums(vectors: Sequence[Expr], lanes: int) -> Expr:
    """The sum of the lanes of each vector, as a vector of len(vectors) (a power of two) lanes.

    Every step adds the two halves of all blocks of lanes, and packs two vectors into one: fewer
    shuffles than a tree for each.
    """
    parts, block = [bind(v) for v in vectors], lanes
    while block > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        low = [b + i for b in range(0, lanes * len(pairs[0]), block) for i in range(block // 2)]
        high = [i + block // 2 for i in low]
        parts = [bind(T.Shuffle(pair, low) + T.Shuffle(pair, high)) for pair in pairs]
        lanes, block = len(low), block // 2
    return parts[0]


class Accumulator:
    """A float32 vector that a loop adds to; LLVM keeps it in a register."""

    def __init__(self, lanes: int, value: Expr = 0.0) -> None:
        self.lanes = lanes
        self._cell = scratch((lanes,))
        self.set(splat(value, lanes) if isinstance(value, float) else value)

    def get(self) -> Expr:
        """The value now."""
        return load(self._cell, (i64(0),), self.lanes)

    def set(self, value: Expr) -> None:
        """Replace the value."""
        store(self._cell, (i64(0),), value, self.lanes)

    def add(self, value: Expr) -> None:
        """Add; a product becomes a fused multiply-add where the CPU has one."""
        self.set(value + self.get())


def prefetch(buffer: Buffer, index: Sequence[Expr]) -> None:
    """Ask for the cache line of an element; an address past the end does no harm."""
    address = T.address_of(buffer[tuple(index)])
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", address, i32(0), i32(3), i32(1)))


# 2^t on [-1/2, 1/2]: interpolated at the Chebyshev nodes, relative error below 2e-8.
_EXP2 = (
    1.54614447e-4,
    1.34004282e-3,
    9.61805668e-3,
    5.55032723e-2,
    2.40226509e-1,
    6.93147207e-1,
    1.0,
)


def exp2_nonpositive(x: Expr, lanes: int) -> Expr:
    """2^x for x <= 0, exactly 0 below 2^-126; relative error below 2e-7.

    x = n + t with n the nearest integer: 2^n goes into the exponent bits, 2^t is a polynomial.
    """
    x = bind(T.max(x, splat(-127.0, lanes)))
    n = bind(T.Cast(vtype("int32", lanes), x - splat(0.5, lanes)))
    t = bind(x - T.Cast(vtype("float32", lanes), n))
    p = splat(_EXP2[0], lanes)
    for coefficient in _EXP2[1:]:
        p = bind(p * t + splat(coefficient, lanes))
    bits = T.shift_left(n + splat(i32(127), lanes), splat(i32(23), lanes))
    return bind(p * T.reinterpret(vtype("float32", lanes), bits))
