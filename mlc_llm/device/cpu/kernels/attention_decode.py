"""Attention of one token: the heads that share a key head against all keys. See `attention.py`.

Keys go in chunks of 64, copied together as float32: scores of all heads, then one step of the
running softmax, then the values.

    m' = max(m, scores)    c = 2^(m - m')    d = d c + sum 2^(s - m')    o = o c + sum 2^(s - m') v

"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from .attention_source import KEY, VALUE, Mask, Source
from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    ceil_div,
    exp2_nonpositive,
    f32,
    fold_max,
    fold_sum,
    fold_sums,
    i32,
    i64,
    load,
    load_f32,
    scratch,
    serial,
    splat,
    store,
    store_f32,
)

CHUNK = 64  # keys between two steps of the softmax
TOGETHER = 4  # keys whose scores are summed across lanes together
LOWEST = -5e4  # the maximum before any key; no score is as low
HIDDEN = -1e30  # the score of a key that is not seen
LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class _State:
    """What the loop over the keys carries, for each of the heads of a group."""

    query: Buffer  # (heads, d), scaled
    keys: Buffer  # (CHUNK, d)
    values: Buffer  # (CHUNK, d)
    scores: Buffer  # (heads, CHUNK)
    out: Buffer  # (heads, d)
    top: Buffer  # (heads,) m
    total: Buffer  # (heads,) d

    @staticmethod
    def allocate(heads: int, d: int) -> _State:
        shapes = (
            (heads, d),
            (CHUNK, d),
            (CHUNK, d),
            (heads, CHUNK),
            (heads, d),
            (heads,),
            (heads,),
        )
        return _State(*(scratch(shape) for shape in shapes))


def attend_one(
    q: Buffer,
    source: Source,
    mask: Mask,
    position: Expr,
    out: Buffer,
    lse: Buffer,
    b: Expr,
    h: Expr,
    group: int,
    sm_scale: Expr,
    isa: Isa,
) -> None:
    """Emit out[b, j] and lse[b, j] for the `group` query heads j that share key head h.

    q, out (batch, hq, d); lse (batch, hq); `position` is the query's (int32).
    """
    d = int(q.shape[2])
    lanes = gcd(d, isa.lanes)
    state = _State.allocate(group, d)
    _begin(state, q, b, h, sm_scale, lanes)
    first = bind(mask.first(position))
    skipped = i64(0) if mask.has_sink else bind(T.Cast("int64", T.truncdiv(first, CHUNK)))
    with serial(T.max(ceil_div(source.length, CHUNK) - skipped, i64(0))) as chunk:
        begin = bind((chunk + skipped) * CHUNK)
        count = bind(T.min(source.length - begin, i64(CHUNK)))
        blocks = bind(ceil_div(count, TOGETHER))
        source.copy(begin, blocks * TOGETHER, state.keys, state.values, lanes)
        _scores(state, source, begin + CHUNK, blocks, lanes, q.dtype)
        with serial(group) as j:
            _softmax_step(state, j, mask, first, begin, source.length, lanes, isa.lanes)
        _add_values(state, count, isa)
    _finish(state, out, lse, b, h, lanes)


def _begin(state: _State, q: Buffer, b: Expr, h: Expr, sm_scale: Expr, lanes: int) -> None:
    """The scaled queries; empty sums."""
    group, d = (int(n) for n in state.query.shape)
    with serial(group) as j:
        T.buffer_store(state.top, f32(LOWEST), [j])
        T.buffer_store(state.total, f32(0), [j])
        with serial(d // lanes) as i:
            value = load_f32(q, (b, h * group + j, i * lanes), lanes)
            scale = splat(sm_scale * f32(LOG2E), lanes)
            store(state.query, (j, i * lanes), value * scale, lanes)
            store(state.out, (j, i * lanes), splat(0.0, lanes), lanes)


def _scores(
    state: _State, source: Source, next_chunk: Expr, blocks: Expr, lanes: int, dtype: str
) -> None:
    """scores[j, t] = query[j] . keys[t], four keys at a time.

    Meanwhile the next chunk comes into the cache.
    """
    group, d = (int(n) for n in state.query.shape)
    line = 64 // (2 if dtype == "float16" else 4)
    with serial(blocks) as block:
        t = bind(block * TOGETHER)
        with serial(TOGETHER) as key:
            place = source.find(bind(T.min(next_chunk + t + key, source.length - 1)))
            with serial(-(-d // line)) as i:
                for which in (KEY, VALUE):
                    source.fetch(which, place, i * line)
        with serial(group) as j:
            dots = [Accumulator(lanes) for _ in range(TOGETHER)]
            with serial(d // lanes) as i:
                query = bind(load(state.query, (j, i * lanes), lanes))
                for key, dot in enumerate(dots):
                    dot.add(load(state.keys, (t + key, i * lanes), lanes) * query)
            scores = fold_sums([dot.get() for dot in dots], lanes)
            store(state.scores, (j, t), scores, TOGETHER)


def _softmax_step(
    state: _State,
    j: Expr,
    mask: Mask,
    first: Expr,
    begin: Expr,
    length: Expr,
    lanes: int,
    wide: int,
) -> None:
    """Turn the scores of head j into weights, and scale what was summed before.

    `lanes` are those of `out`, `wide` those of the scores.
    """
    old = bind(state.top[j])
    top, total = Accumulator(wide, splat(old, wide)), Accumulator(wide)
    with serial(CHUNK // wide) as i:
        key = bind(T.ramp(T.Cast("int32", begin + i * wide), i32(1), wide))
        seen = key < splat(T.Cast("int32", length), wide)
        if mask.window is not None:
            seen = T.And(seen, mask.sees(key, splat(first, wide), wide))
        score = load(state.scores, (j, i * wide), wide)
        score = bind(T.Select(seen, score, splat(HIDDEN, wide)))
        store(state.scores, (j, i * wide), score, wide)
        top.set(T.max(top.get(), score))
    new = bind(fold_max(top.get(), wide))
    T.buffer_store(state.top, new, [j])
    with serial(CHUNK // wide) as i:
        score = load(state.scores, (j, i * wide), wide)
        weight = exp2_nonpositive(score - splat(new, wide), wide)
        store(state.scores, (j, i * wide), weight, wide)
        total.add(weight)
    decay = bind(T.exp2(old - new))
    T.buffer_store(state.total, state.total[j] * decay + fold_sum(total.get(), wide), [j])
    with serial(int(state.out.shape[1]) // lanes) as i:
        at = (j, i * lanes)
        store(state.out, at, load(state.out, at, lanes) * splat(decay, lanes), lanes)


def _add_values(state: _State, count: Expr, isa: Isa) -> None:
    """out[j] += sum over t of weight[j, t] * values[t], a few heads at a time."""
    group, d = (int(n) for n in state.out.shape)
    lanes = gcd(d, isa.lanes)
    for first_head, few, times in _few(group):
        # As many vectors of a value as have room for the sums of a few heads in registers.
        width = max(w for w in range(1, d // lanes + 1) if _fits(w, few, d // lanes, isa))
        with serial(times) as block, serial(d // lanes // width) as part:
            heads = [bind(block * few + first_head + j) for j in range(few)]
            elements = [bind((part * width + i) * lanes) for i in range(width)]
            sums = [
                [Accumulator(lanes, load(state.out, (j, e), lanes)) for e in elements]
                for j in heads
            ]
            with serial(count) as t:
                value = [bind(load(state.values, (t, e), lanes)) for e in elements]
                for j, row in zip(heads, sums, strict=True):
                    weight = bind(splat(state.scores[j, t], lanes))
                    for total, v in zip(row, value, strict=True):
                        total.add(v * weight)
            for j, row in zip(heads, sums, strict=True):
                for e, total in zip(elements, row, strict=True):
                    store(state.out, (j, e), total.get(), lanes)


def _few(heads: int) -> list[tuple[int, int, int]]:
    """The heads of a group, four at a time: (first, at a time, how many times)."""
    rest = heads % 4
    return [run for run in ((0, 4, heads // 4), (heads - rest, rest, 1)) if run[1] and run[2]]


def _fits(width: int, few: int, vectors: int, isa: Isa) -> bool:
    return vectors % width == 0 and (width == 1 or width * few <= isa.registers // 2)


def _finish(state: _State, out: Buffer, lse: Buffer, b: Expr, h: Expr, lanes: int) -> None:
    """Divide and write."""
    group, d = (int(n) for n in state.out.shape)
    with serial(group) as j:
        head = bind(h * group + j)
        # Without a visible key the sums are 0 and stay so.
        total = bind(T.Select(state.total[j] > f32(0), state.total[j], f32(1)))
        with serial(d // lanes) as i:
            value = load(state.out, (j, i * lanes), lanes) / splat(total, lanes)
            store_f32(out, (b, head, i * lanes), value, lanes)
        T.buffer_store(lse, state.top[j] + T.log2(total), [b, head])
