"""The vocabulary that the CPU's kernels are written in: vectors, loops and arguments of a PrimFunc.

Everything here is called while a `kernel(...)` block is open and emits TIR into it. Loop variables
and sizes are int64, so that no index overflows. A value that is used twice must be bound (`bind`),
else its whole expression is emitted twice. `lanes == 1` stands for a scalar everywhere.

`compile/kernel.py` has the words that GPUs have too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.kernel import Buffer, Expr, Frame, IndexType, bind, i32, when
from mlc_llm.compile.kernel import kernel as kernel  # words of this vocabulary, too

i64 = IndexType("int64")
size, argument, serial, ceil_div = i64.size, i64.argument, i64.serial, i64.ceil_div


def f32(value: float) -> Expr:
    """A float32 constant."""
    return T.float32(value)


def scratch(shape: Sequence[Expr], dtype: str = "float32") -> Buffer:
    """Working memory: on the stack below 1 KB, else from TVM's workspace pool of the thread."""
    return T.alloc_buffer(tuple(i64(s) if isinstance(s, int) else s for s in shape), dtype)


def parallel(extent: Expr) -> Frame:
    """A loop that TVM divides into one contiguous range per thread."""
    extent = i64(extent) if isinstance(extent, int) else extent
    return T.parallel(i64(0), extent)


_WORTH_A_LAUNCH = 8  # tokens; waking the threads takes about as long as copying a few


def each_token(tokens: Expr, body: Callable[[Expr], None]) -> None:
    """body(s) for every token s: over the threads where there are many, else in a plain loop."""
    for loop, condition in (
        (parallel, tokens >= _WORTH_A_LAUNCH),
        (serial, tokens < _WORTH_A_LAUNCH),
    ):
        with when(condition), loop(tokens) as s:
            body(s)


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


def load_half(buffer: Buffer, index: Sequence[Expr], lanes: int) -> Expr:
    """`load_f32` of finite float16 in integer arithmetic, where no instruction converts them.

    Exponent and fraction, shifted into place, are the value divided by 2^112.
    """
    bits = T.reinterpret(vtype("uint16", lanes), load(buffer, index, lanes))
    bits = bind(T.Cast(vtype("uint32", lanes), bits))
    shifted = T.shift_left(bits & splat(T.uint32(0x7FFF), lanes), splat(T.uint32(13), lanes))
    small = T.reinterpret(vtype("float32", lanes), bind(shifted))
    sign = T.shift_left(bits & splat(T.uint32(0x8000), lanes), splat(T.uint32(16), lanes))
    magnitude = T.reinterpret(vtype("uint32", lanes), bind(small * splat(2.0**112, lanes)))
    return T.reinterpret(vtype("float32", lanes), bind(magnitude | sign))


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


def transpose(rows: Sequence[Expr]) -> list[Expr]:
    """The columns of a square block, whose rows are vectors of len(rows) lanes, a power of two.

    Each step exchanges the off-diagonal blocks of half the size.
    """
    lanes, rows = len(rows), list(rows)
    step = lanes // 2
    while step:
        low = [i if not i & step else lanes + i - step for i in range(lanes)]
        high = [i + step if not i & step else lanes + i for i in range(lanes)]
        for i in (i for i in range(lanes) if not i & step):
            pair = [rows[i], rows[i + step]]
            rows[i], rows[i + step] = (bind(T.Shuffle(pair, half)) for half in (low, high))
        step //= 2
    return rows


class Accumulator:
    """A vector that a loop adds to; LLVM keeps it in a register."""

    def __init__(self, lanes: int, value: Expr = 0.0, dtype: str = "float32") -> None:
        self.lanes = lanes
        self._cell = scratch((lanes,), dtype)
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


ROUNDER = 1.5 * 2.0**23  # added to a float32 below 2^22, leaves the nearest integer in its low bits


def rounded_bits(x: Expr, lanes: int) -> Expr:
    """The bits of x + ROUNDER, int32 lanes: the nearest integer stands in the low ones.

    As bits, or TVM would take (x + c) - c for x.
    """
    shifted = bind(x + splat(ROUNDER, lanes))
    return bind(T.reinterpret(vtype("int32", lanes), shifted))


def exp2_nonpositive(x: Expr, lanes: int) -> Expr:
    """2^x for x <= 0, exactly 0 from -127 down; relative error below 2e-7 where x >= -126.

    x = n + t with n the nearest integer: 2^t is a polynomial, and n is added to its exponent.
    """
    x = bind(T.max(x, splat(-127.0, lanes)))
    integers, floats = vtype("int32", lanes), vtype("float32", lanes)
    rounded = rounded_bits(x, lanes)
    t = bind(x - (T.reinterpret(floats, rounded) - splat(ROUNDER, lanes)))
    p = splat(_EXP2[0], lanes)
    for coefficient in _EXP2[1:]:
        p = bind(p * t + splat(coefficient, lanes))
    exponent = T.shift_left(rounded, splat(i32(23), lanes))
    return bind(T.reinterpret(floats, T.reinterpret(integers, p) + exponent))
