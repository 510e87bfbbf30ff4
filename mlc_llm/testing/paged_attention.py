"""Checks of a device's attention kernels against NumPy.

For the authors of kernels. A ``run`` is called with a ``PrimFunc`` and its arguments, NumPy arrays;
it compiles and runs it, and leaves the results in the arrays. A ``make`` gives the
:class:`~mlc_llm.plugin.AttentionKernels` of (description, dtype of keys and values, dtype of
activations).

Whatever a kernel must not look at is NaN here: slots after a sequence's end, and pages that it does
not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.plugin import PAGE_SIZE, AttentionKernels, AttentionSpec, Rope

Array = npt.NDArray[Any]
Run = Callable[..., None]
Make = Callable[[AttentionSpec, str, str], AttentionKernels]

TOLERANCE = {"float32": 1.2e-5, "float16": 8e-3}
"""By the dtype of keys, values and activations."""


def describe(heads: tuple[int, int], size: int, **more: Any) -> AttentionSpec:
    """A description of (query heads, kv heads) of ``size`` elements; ``more`` replaces fields."""
    hq, hkv = heads
    return replace(AttentionSpec(hq, hkv, size, size, size**-0.5), **more)


def attention(
    spec: AttentionSpec, q: Array, k: Array, v: Array, positions: Array, sinks: Array | None = None
) -> Array:
    """What queries at some positions attend to, in float64: (queries, query heads, value size).

    Args:
        spec: the description.
        q: (queries, query heads, key size), rotated.
        k: (keys, kv heads, key size), rotated; key j is at position j.
        v: (keys, kv heads, value size).
        positions: of the queries.
        sinks: the logit of each query head, where the description asks for them.
    """
    q, k, v = (x.astype("float64") for x in (q, k, v))
    k, v = (np.repeat(x, spec.group, axis=1) for x in (k, v))
    score = np.einsum("shd,thd->sht", q, k) * spec.scale
    if spec.soft_cap is not None:
        score = spec.soft_cap * np.tanh(score / spec.soft_cap)
    at, key = np.asarray(positions)[:, None], np.arange(len(k))[None]
    seen = key <= at
    if spec.window is not None:
        seen &= (key > at - spec.window) | (key < spec.sink)
    score = np.where(seen[:, None, :], score, -np.inf)
    if sinks is not None:
        beside = np.broadcast_to(sinks.astype("float64")[:, None], (*score.shape[:2], 1))
        score = np.concatenate([score, beside], axis=2)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    out: Array = np.einsum("sht,thd->shd", weight[..., : len(k)], v)
    return out


def rotated(rope: Rope | None, x: Array, positions: npt.ArrayLike) -> Array:
    """Heads (tokens, heads, size) at some positions, rotated."""
    if rope is None:
        return x
    x = x.astype("float64")
    half = len(rope.frequencies)
    frequencies = np.array(rope.frequencies, "float32")
    # The angle is a float32 product, as in the models' own code.
    angle = (np.asarray(positions, "float32")[:, None] * frequencies).astype("float64")
    cos, sin = (rope.factor * f(angle)[:, None] for f in (np.cos, np.sin))
    first, second = slice(0, half), slice(half, 2 * half)
    if rope.interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


@dataclass
class Sequences:
    """Sequences of keys and values that are spread over shuffled pages."""

    spec: AttentionSpec
    pages: Array
    page_table: Array
    k: list[Array]
    v: list[Array]

    @staticmethod
    def of(
        rng: np.random.Generator, spec: AttentionSpec, lengths: Sequence[int], dtype: str
    ) -> Sequences:
        """Random keys and values for sequences of these lengths."""
        counts = [-(-n // PAGE_SIZE) for n in lengths]
        order = rng.permutation(sum(counts) + 2).astype("int32")
        # The table is wider than any sequence; what is left of it names a page of NaN.
        table = np.full((len(lengths), max(counts) + 3), order[-1], "int32")
        pages = np.full((len(order), *spec.page_shape), np.nan, dtype)
        taken = 0
        for i, count in enumerate(counts):
            table[i, :count] = order[taken : taken + count]
            taken += count
        k = [rng.standard_normal((n, spec.kv_heads, spec.key_size)).astype(dtype) for n in lengths]
        v = [
            rng.standard_normal((n, spec.kv_heads, spec.value_size)).astype(dtype) for n in lengths
        ]
        made = Sequences(spec, pages, table, k, v)
        for i, n in enumerate(lengths):
            for position in range(n):
                key, value = made.slot(i, position)
                key[...], value[...] = k[i][position], v[i][position]
        return made

    def slot(self, sequence: int, position: int) -> tuple[Array, Array]:
        """Views of a token's keys (kv heads, key size) and values (kv heads, value size)."""
        spec = self.spec
        page = self.pages[self.page_table[sequence, position // PAGE_SIZE]]
        keys = page[:, : PAGE_SIZE * spec.key_size]
        values = page[:, PAGE_SIZE * spec.key_size :]
        place = position % PAGE_SIZE
        return (
            keys.reshape(spec.kv_heads, PAGE_SIZE, spec.key_size)[:, place],
            values.reshape(spec.kv_heads, PAGE_SIZE, spec.value_size)[:, place],
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(keys) for keys in self.k]


def scratch(kernel: Any, given: int) -> list[Array]:
    """Arrays for the buffers that a kernel takes after the first ``given``."""
    types = [parameter.ty for parameter in kernel.params[given:]]
    return [np.full([int(n) for n in one.shape], np.nan, str(one.dtype)) for one in types]


def check_decode(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    spec: AttentionSpec,
    lengths: Sequence[int],
    dtype: str = "float32",
    rows: Sequence[tuple[int, int]] | None = None,
) -> None:
    """Rows of (sequence, position) in one call; by default the last token of each sequence."""
    held = Sequences.of(rng, spec, lengths, dtype)
    rows = [(i, n - 1) for i, n in enumerate(lengths)] if rows is None else rows
    sequences, positions = (np.array(x, "int32") for x in zip(*rows, strict=True))
    q = rng.standard_normal((len(rows), spec.query_heads, spec.key_size)).astype(dtype)
    out = np.full((len(rows), spec.out_width), np.nan, dtype)
    sinks = _sinks(rng, spec)
    kernel = make(spec, dtype, dtype).decode
    tables = (positions, sequences, held.page_table)
    given = [_qkv(q, spec), *tables, held.pages, *sinks, out]
    run(kernel, *given, *scratch(kernel, len(given)))
    for row, (sequence, position) in enumerate(rows):
        k, v = held.k[sequence][: position + 1], held.v[sequence][: position + 1]
        want = attention(spec, q[row : row + 1], k, v, np.array([position]), *sinks)
        found = out[row].reshape(want.shape[1:])
        np.testing.assert_allclose(found, want[0], rtol=0, atol=TOLERANCE[dtype])


def check_prefill(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    spec: AttentionSpec,
    parts: Sequence[tuple[int, int]],
    dtype: str = "float32",
) -> None:
    """For each of some sequences, (tokens before, new ones): the new ones attend in one call."""
    held = Sequences.of(rng, spec, [before + new for before, new in parts], dtype)
    total = sum(new for _, new in parts)
    starts = np.cumsum([0, *(new for _, new in parts)]).astype("int32")
    positions = np.concatenate([np.arange(b, b + n, dtype="int32") for b, n in parts])
    sequences = np.repeat(np.arange(len(parts), dtype="int32"), [n for _, n in parts])
    q = rng.standard_normal((total, spec.query_heads, spec.key_size)).astype(dtype)
    out = np.full((total, spec.out_width), np.nan, dtype)
    sinks = _sinks(rng, spec)
    tables = (positions, sequences, starts, held.page_table)
    run(make(spec, dtype, dtype).prefill, _qkv(q, spec), *tables, held.pages, *sinks, out)
    for i in range(len(parts)):
        rows = slice(starts[i], starts[i + 1])
        want = attention(spec, q[rows], held.k[i], held.v[i], positions[rows], *sinks)
        found = out[rows].reshape(want.shape)
        np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])


def check_append(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    spec: AttentionSpec,
    rows: Sequence[tuple[int, int]],
    dtype: str = "float32",
    tolerance: float = 2e-5,
) -> None:
    """New tokens at (sequence, position): queries and keys are rotated, the rest stays."""
    sequences, positions = (np.array(x, "int32") for x in zip(*rows, strict=True))
    qkv = rng.standard_normal((len(rows), spec.qkv_width)).astype(dtype)
    given, kernels = qkv.copy(), make(spec, dtype, dtype)
    tolerance += float(np.finfo(dtype).eps) * 4
    queries = spec.query_heads * spec.key_size
    if spec.keys_of is not None:
        run(kernels.rotate, qkv, positions)
    else:
        lengths = [
            1 + max(p for s, p in [(i, -1), *rows] if s == i) for i in range(max(sequences) + 1)
        ]
        held = Sequences.of(rng, spec, lengths, dtype)
        before = replace(held, pages=held.pages.copy())
        run(kernels.append, qkv, positions, sequences, held.page_table, held.pages)
        _check_appended(held, before, given[:, queries:], rows, tolerance)
    wanted = rotated(spec.rope, _heads(given[:, :queries], spec.query_heads), positions)
    found = _heads(qkv[:, :queries], spec.query_heads)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(qkv[:, queries:], given[:, queries:])


def _check_appended(
    held: Sequences,
    before: Sequences,
    keys_and_values: Array,
    rows: Sequence[tuple[int, int]],
    tolerance: float,
) -> None:
    """The rows' keys and values are in their slots, and nothing else in the pages has changed."""
    spec = held.spec
    keys, values = np.split(keys_and_values, [spec.kv_heads * spec.key_size], axis=1)
    wanted = rotated(spec.rope, _heads(keys, spec.kv_heads), [position for _, position in rows])
    for row, place in enumerate(rows):
        key, value = held.slot(*place)
        np.testing.assert_allclose(key, wanted[row], rtol=0, atol=tolerance)
        np.testing.assert_array_equal(value, _heads(values, spec.kv_heads)[row])
        for slot, old in zip(held.slot(*place), before.slot(*place), strict=True):
            slot[...] = old
    np.testing.assert_array_equal(held.pages, before.pages)


def _heads(x: Array, count: int) -> Array:
    """Rows of heads side by side as (rows, heads, elements)."""
    return x.reshape(len(x), count, -1)


def _qkv(q: Array, spec: AttentionSpec) -> Array:
    """Queries (rows, heads, elements) as a projection's rows, whose other columns are NaN."""
    flat = np.full((len(q), spec.qkv_width), np.nan, q.dtype)
    flat[:, : spec.query_heads * spec.key_size] = q.reshape(len(q), -1)
    return flat


def _sinks(rng: np.random.Generator, spec: AttentionSpec) -> tuple[Array, ...]:
    """The sinks' logits, as the kernels' further argument."""
    if not spec.sink_logits:
        return ()
    return (rng.standard_normal(spec.query_heads).astype("float32") * 3,)
