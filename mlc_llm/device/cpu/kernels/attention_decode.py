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


def _few(heads: int, at_most: int = 4) -> list[range]:
    """The heads of a group, a few at a time."""
    return [range(j, min(j + at_most, heads)) for j in range(0, heads, at_most)]


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
    parts = range(d // lanes)
    with serial(group) as j, serial(CHUNK // isa.lanes) as i:
        store(state.scores, (j, i * isa.lanes), splat(HIDDEN, isa.lanes), isa.lanes)
    for heads in _few(group):
        rows = [[bind(load(query, (i64(j), i64(i * lanes)), lanes)) for i in parts] for j in heads]
        with serial(count) as t:
            at = bind(begin + t)
            key = [bind(source.load(KEY, at, i64(i * lanes), lanes)) for i in parts]
            for j, row in zip(heads, rows, strict=True):
                dot = row[0] * key[0]
                for i in parts[1:]:
                    dot = row[i] * key[i] + dot
                score = fold_sum(dot, lanes)
                if mask.window is not None:
                    score = T.Select(mask.sees(T.Cast("int32", at), first), score, f32(HIDDEN))
                T.buffer_store(state.scores, score, [i64(j), t])


def _softmax_step(state: _State, j: Expr, lanes: int, score_lanes: int) -> None:
    """Turn the scores of head j into weights, and scale what was summed before."""
    at = [(j, i64(i)) for i in range(0, CHUNK, score_lanes)]
    scores = [bind(load(state.scores, place, score_lanes)) for place in at]
    top = scores[0]
    for vector in scores[1:]:
        top = T.max(top, vector)
    new_top = bind(T.max(state.top[j], fold_max(top, score_lanes)))
    weights = [exp2_nonpositive(v - splat(new_top, score_lanes), score_lanes) for v in scores]
    for place, weight in zip(at, weights, strict=True):
        store(state.scores, place, weight, score_lanes)
    decay = exp2_nonpositive(splat(bind(state.top[j] - new_top), lanes), lanes)
    one_decay = T.Shuffle([decay], [0]) if lanes > 1 else decay
    total = fold_sum(sum(weights[1:], weights[0]), score_lanes)
    T.buffer_store(state.total, state.total[j] * one_decay + total, [j])
    T.buffer_store(state.top, new_top, [j])
    with serial(int(state.out.shape[1]) // lanes) as i:
        store(state.out, (j, i * lanes), load(state.out, (j, i * lanes), lanes) * decay, lanes)


def _add_values(source: Source, begin: Expr, count: Expr, state: _State, isa: Isa) -> None:
    """out[j] += sum over t of weight[j, t] * value[begin + t]."""
    group, d = (int(n) for n in state.out.shape)
    lanes = gcd(d, isa.lanes)
    for heads in _few(group):
        width = max(1, isa.registers // 2 // len(heads))  # vectors whose sums fit in registers
        for first in range(0, d // lanes, width):
            parts = [i64(i * lanes) for i in range(first, min(first + width, d // lanes))]
            sums = [
                [Accumulator(lanes, load(state.out, (i64(j), i), lanes)) for i in parts]
                for j in heads
            ]
            with serial(count) as t:
                value = [bind(source.load(VALUE, begin + t, i, lanes)) for i in parts]
                for j, row in zip(heads, sums, strict=True):
                    weight = bind(splat(state.scores[i64(j), t], lanes))
                    for total, v in zip(row, value, strict=True):
                        total.add(v * weight)
            for j, row in zip(heads, sums, strict=True):
                for i, total in zip(parts, row, strict=True):
                    store(state.out, (i64(j), i), total.get(), lanes)
