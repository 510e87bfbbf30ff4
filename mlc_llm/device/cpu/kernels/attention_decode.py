"""Attention of one token: the query heads that share a key head against all keys. See `attention.py`.

Keys go in chunks of 64: scores of all heads, then one step of the running softmax, then the values.

    m' = max(m, scores)    c = 2^(m - m')    d = d c + sum 2^(s - m')    o = o c + sum 2^(s - m') v

Heads go a few at a time, so that a key or value that was loaded serves them all from registers.
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
LOWEST = -5e4  # the maximum before any key; no score is as low
HIDDEN = -1e30  # the score of a key that is not seen
LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class _State:
    """What the loop over the keys carries, for each of the heads of a group."""

    scores: Buffer  # (heads, CHUNK)
    out: Buffer  # (heads, d)
    top: Buffer  # (heads,) m
    total: Buffer  # (heads,) d

    @staticmethod
    def begin(heads: int, d: int, lanes: int) -> _State:
        shapes = ((heads, CHUNK), (heads, d), (heads,), (heads,))
        state = _State(*(scratch(shape) for shape in shapes))
        with serial(heads) as j:
            T.buffer_store(state.top, f32(LOWEST), [j])
            T.buffer_store(state.total, f32(0), [j])
            with serial(d // lanes) as i:
                store(state.out, (j, i * lanes), splat(0.0, lanes), lanes)
        return state


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
    state = _State.begin(group, d, lanes)
    query = scratch((group, d))
    with serial(group) as j, serial(d // lanes) as i:
        value = load_f32(q, (b, h * group + j, i * lanes), lanes)
        store(query, (j, i * lanes), value * splat(sm_scale * f32(LOG2E), lanes), lanes)

    first = bind(mask.first(position))
    skipped = i64(0) if mask.has_sink else bind(T.Cast("int64", T.truncdiv(first, CHUNK)))
    with serial(T.max(ceil_div(source.length, CHUNK) - skipped, i64(0))) as chunk:
        begin = bind((chunk + skipped) * CHUNK)
        count = bind(T.min(source.length - begin, i64(CHUNK)))
        _scores(query, source, mask, first, begin, count, state, isa)
        with serial(group) as j:
            _softmax_step(state, j, lanes, isa.lanes)
        _add_values(source, begin, count, state, isa)

    with serial(group) as j:
        head = bind(h * group + j)
        # Without a visible key the sums are 0 and stay so.
        total = bind(T.Select(state.total[j] > f32(0), state.total[j], f32(1)))
        with serial(d // lanes) as i:
            value = load(state.out, (j, i * lanes), lanes) / splat(total, lanes)
            store_f32(out, (b, head, i * lanes), value, lanes)
        T.buffer_store(lse, state.top[j] + T.log2(total), [b, head])


def _few(heads: int) -> list[tuple[int, int, int]]:
    """The heads of a group, four at a time: (first, at a time, how many times)."""
    rest = heads % 4
    return [run for run in ((0, 4, heads // 4), (heads - rest, rest, 1)) if run[1] and run[2]]


def _scores(
    query: Buffer,
    source: Source,
    mask: Mask,
    first: Expr,
    begin: Expr,
    count: Expr,
    state: _State,
    isa: Isa,
) -> None:
    """scores[j, t] = query[j] . key[begin + t], HIDDEN where the key is not seen."""
    group, d = (int(n) for n in query.shape)
    lanes = gcd(d, isa.lanes)
    with serial(group) as j, serial(CHUNK // isa.lanes) as i:
        store(state.scores, (j, i * isa.lanes), splat(HIDDEN, isa.lanes), isa.lanes)
    for first_head, few, times in _few(group):
        with serial(times) as block, serial(count) as t:
            head = bind(block * few + first_head)
            place = source.find(bind(begin + t))
            dots = [Accumulator(lanes) for _ in range(few)]
            with serial(d // lanes) as i:
                key = bind(source.load(KEY, place, i * lanes, lanes))
                for j, dot in enumerate(dots):
                    dot.add(load(query, (head + j, i * lanes), lanes) * key)
            for j, dot in enumerate(dots):
                score = fold_sum(dot.get(), lanes)
                if mask.window is not None:
                    key_index = T.Cast("int32", begin + t)
                    score = T.Select(mask.sees(key_index, first), score, f32(HIDDEN))
                T.buffer_store(state.scores, score, [head + j, t])


def _softmax_step(state: _State, j: Expr, lanes: int, score_lanes: int) -> None:
    """Turn the scores of head j into weights, and scale what was summed before."""
    old = bind(state.top[j])
    top = Accumulator(score_lanes, splat(old, score_lanes))
    with serial(CHUNK // score_lanes) as i:
        top.set(T.max(top.get(), load(state.scores, (j, i * score_lanes), score_lanes)))
    new = bind(fold_max(top.get(), score_lanes))
    T.buffer_store(state.top, new, [j])
    total = Accumulator(score_lanes)
    with serial(CHUNK // score_lanes) as i:
        at = (j, i * score_lanes)
        score = load(state.scores, at, score_lanes)
        weight = exp2_nonpositive(score - splat(new, score_lanes), score_lanes)
        store(state.scores, at, weight, score_lanes)
        total.add(weight)
    decay = bind(T.exp2(old - new))
    T.buffer_store(state.total, state.total[j] * decay + fold_sum(total.get(), score_lanes), [j])
    with serial(int(state.out.shape[1]) // lanes) as i:
        at = (j, i * lanes)
        store(state.out, at, load(state.out, at, lanes) * splat(decay, lanes), lanes)


def _add_values(source: Source, begin: Expr, count: Expr, state: _State, isa: Isa) -> None:
    """out[j] += sum over t of weight[j, t] * value[begin + t]."""
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
                place = source.find(bind(begin + t))
                value = [bind(source.load(VALUE, place, e, lanes)) for e in elements]
                for j, row in zip(heads, sums, strict=True):
                    weight = bind(splat(state.scores[j, t], lanes))
                    for total, v in zip(row, value, strict=True):
                        total.add(v * weight)
            for j, row in zip(heads, sums, strict=True):
                for e, total in zip(elements, row, strict=True):
                    store(state.out, (j, e), total.get(), lanes)


def _fits(width: int, few: int, vectors: int, isa: Isa) -> bool:
    return vectors % width == 0 and (width == 1 or width * few <= isa.registers // 2)
