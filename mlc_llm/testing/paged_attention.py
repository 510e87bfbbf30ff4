"""Checks of attention kernels against NumPy, over page tables like those that TVM's cache makes.

For the authors of a device's kernels. A ``run`` is called with a ``PrimFunc`` and its arguments,
NumPy arrays and numbers; it compiles and runs it, and leaves the results in the arrays. A ``make``
gives the kernel of (kv heads, query heads, head size, dtype, window, sink).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[..., None]
Make = Callable[[int, int, int, str, int | None, int], Any]

PAGE = 16
"""Tokens of a page."""

TOLERANCE = {"float32": 3e-6, "float16": 2e-3}
ROPE = (0, 1.0, 10000.0)
"""The arguments about RoPE, which kernels on rotated keys ignore."""


def attention(q: Array, k: Array, v: Array, seen: Array, sm_scale: float) -> tuple[Array, Array]:
    """softmax(q k) v and its base-2 log-sum-exp; q (s, hq, d), k and v (t, hkv, d), seen (s, t)."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.astype("float64") for x in (q, k, v))
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    score = np.einsum("shd,thd->sht", q, k) * sm_scale * np.log2(np.e)
    score = np.where(seen[:, None, :], score, -np.inf)
    top = np.maximum(score.max(-1, keepdims=True, initial=-np.inf), -5e4)
    weight = np.exp2(score - top)
    total = weight.sum(-1)
    safe = np.where(total > 0, total, 1)
    return np.einsum("sht,thd->shd", weight, v) / safe[..., None], top[..., 0] + np.log2(safe)


@dataclass
class Cache:
    """Sequences of keys and values spread over shuffled pages, and the tables that find them."""

    pages: Array
    indptr: Array
    values: Array
    length_info: Array
    k: list[Array]
    v: list[Array]

    @staticmethod
    def of(
        rng: np.random.Generator, lengths: Sequence[int], heads: int, d: int, dtype: str
    ) -> Cache:
        """Random keys and values of so many tokens each."""
        counts = [-(-n // PAGE) for n in lengths]
        order = rng.permutation(sum(counts) + 2).astype("int32")[: sum(counts)]
        pages = rng.standard_normal((sum(counts) + 2, 2, heads, PAGE, d)).astype(dtype)
        k: list[Array] = []
        v: list[Array] = []
        begin = 0
        for n, count in zip(lengths, counts, strict=True):
            own = pages[order[begin : begin + count]].transpose(0, 3, 1, 2, 4)
            own = own.reshape(count * PAGE, 2, heads, d)
            k.append(own[:n, 0])
            v.append(own[:n, 1])
            begin += count
        last = np.array([(n - 1) % PAGE + 1 if n else 0 for n in lengths], "int32")
        indptr = np.cumsum([0, *counts]).astype("int32")
        return Cache(pages, indptr, order, last, k, v)

    @property
    def table(self) -> tuple[Array, Array, Array]:
        """The three tensors of the page table."""
        return self.indptr, self.values, self.length_info


def check_decode(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    lengths: Sequence[int],
    heads: tuple[int, int],
    d: int,
    dtype: str = "float32",
    window: int | None = None,
    sink: int = 0,
) -> None:
    """Decode at the position after the last key; with a window, keys count from position 0."""
    hq, hkv = heads
    cache = Cache.of(rng, lengths, hkv, d, dtype)
    b = len(lengths)
    q = rng.standard_normal((b, hq, d)).astype(dtype)
    out, lse = np.full((b, hq, d), np.nan, dtype), np.full((b, hq), np.nan, "float32")
    position = np.array([len(k) for k in cache.k], "int32")
    kernel = make(hkv, hq, d, dtype, window, sink)
    offset = np.zeros(b, "int32")
    run(kernel, q, cache.pages, *cache.table, offset, position, out, lse, *ROPE, d**-0.5)
    for i in range(b):
        j = np.arange(len(cache.k[i]))
        seen = np.ones(len(j), bool) if window is None else (j > len(j) - window) | (j < sink)
        want, want_lse = attention(q[i : i + 1], cache.k[i], cache.v[i], seen[None], d**-0.5)
        np.testing.assert_allclose(out[i], want[0], rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[i], want_lse[0], rtol=0, atol=2e-5)


def check_paged(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    lengths: Sequence[int],
    queries: Sequence[int],
    heads: tuple[int, int],
    d: int,
    dtype: str = "float32",
    causal: int = 0,
    window: int | None = None,
    sink: int = 0,
) -> None:
    """Queries that follow the cached keys (causal = 0), or are the last of them (causal = 1)."""
    hq, hkv = heads
    cache = Cache.of(rng, lengths, hkv, d, dtype)
    total = sum(queries)
    q = rng.standard_normal((total, hq, d)).astype(dtype)
    out, lse = np.full((total, hq, d), np.nan, dtype), np.full((total, hq), np.nan, "float32")
    q_indptr = np.cumsum([0, *queries]).astype("int32")
    offset = rng.integers(0, 5, len(lengths)).astype("int32") if not sink else 0
    offset = np.broadcast_to(np.int32(offset), len(lengths)).copy()
    position = [
        offset[i] + len(cache.k[i]) + np.arange(n, dtype="int32") for i, n in enumerate(queries)
    ]
    kernel = make(hkv, hq, d, dtype, window, sink)
    tail = (offset, np.concatenate(position), out, lse, causal, *ROPE, d**-0.5)
    run(kernel, q, q_indptr, cache.pages, *cache.table, *tail)
    for i, n in enumerate(queries):
        rows = slice(q_indptr[i], q_indptr[i + 1])
        keys = np.arange(len(cache.k[i]))[None]
        seen = np.ones((n, keys.shape[1]), bool)
        if causal and window is None:
            seen = keys <= keys.shape[1] - n + np.arange(n)[:, None]
        if window is not None:
            seen = (keys + offset[i] > position[i][:, None] - window) | (keys + offset[i] < sink)
        want, want_lse = attention(q[rows], cache.k[i], cache.v[i], seen, d**-0.5)
        np.testing.assert_allclose(out[rows], want, rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[rows], want_lse, rtol=0, atol=2e-5)


def check_ragged(
    run: Run,
    make: Make,
    rng: np.random.Generator,
    queries: Sequence[int],
    keys: Sequence[int],
    heads: tuple[int, int],
    d: int,
    dtype: str = "float32",
    causal: int = 1,
    window: int | None = None,
    sink: int = 0,
    past: int = 0,
) -> None:
    """Queries are the last of the keys; `past` is the position of the first key."""
    hq, hkv = heads
    q = rng.standard_normal((sum(queries), hq, d)).astype(dtype)
    k, v = (rng.standard_normal((sum(keys), hkv, d)).astype(dtype) for _ in range(2))
    out = np.full_like(q, np.nan)
    lse = np.full(q.shape[:2], np.nan, "float32")
    q_indptr = np.cumsum([0, *queries]).astype("int32")
    kv_indptr = np.cumsum([0, *keys]).astype("int32")
    position = [
        past + m - n + np.arange(n, dtype="int32") for n, m in zip(queries, keys, strict=True)
    ]
    offset = np.full(len(queries), past, "int32")
    kernel = make(hkv, hq, d, dtype, window, sink)
    tail = (np.concatenate(position), offset, out, lse, causal, *ROPE, d**-0.5)
    run(kernel, q, q_indptr, k, v, kv_indptr, *tail)
    for i in range(len(queries)):
        rows, cols = (slice(p[i], p[i + 1]) for p in (q_indptr, kv_indptr))
        key = past + np.arange(keys[i])[None]
        seen = key <= position[i][:, None] if causal else np.ones((queries[i], keys[i]), bool)
        if window is not None:
            seen = seen & ((key > position[i][:, None] - window) | (key < sink))
        want, want_lse = attention(q[rows], k[cols], v[cols], seen, d**-0.5)
        np.testing.assert_allclose(out[rows], want, rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[rows], want_lse, rtol=0, atol=2e-5)
