"""What the KV cache finds of a prompt, against a search through all that was ever remembered."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.metadata import KVCacheGeometry, LayerAttention
from mlc_llm.runtime.page_pool import OutOfPages
from mlc_llm.runtime.sequence import DECODED, PREFILLED, CachedSequence

PAGE, LENGTH, PAGES, SEQUENCES = 4, 24, 14, 3
LAYER = LayerAttention(query_heads=1, kv_heads=1, key_size=1, value_size=1)
GEOMETRY = KVCacheGeometry(dtype="float32", page_size=PAGE, layers=[LAYER, LAYER])


def new_cache(pages: int = PAGES, recycled: int | None = None) -> KVCache:
    return KVCache(GEOMETRY, LENGTH, 16, tvm.cpu(), SEQUENCES, pages * PAGE, recycled)


def compute(cache: KVCache, held: CachedSequence, tokens: list[int], phases: bytes) -> None:
    """Append tokens; a key says which token stands there, and a value in which phase it was."""
    held.reserve(len(held) + len(tokens))
    begin = len(held)
    held.adopt(tokens, phases)
    for layer in range(2):
        pages = np.from_dlpack(cache.pages[layer])
        for position in range(begin, len(held)):
            page, slot = held.pages[position // PAGE], position % PAGE
            pages[page, 0, slot] = held.tokens[position] + layer
            pages[page, 0, PAGE + slot] = held.phases[position]


def contents(cache: KVCache, held: CachedSequence) -> list[tuple[int, int]]:
    """The tokens and phases that the pages of a sequence hold."""
    found = []
    for layer in range(2):
        pages = np.from_dlpack(cache.pages[layer])[held.pages, 0]
        keys = pages[:, :PAGE].reshape(-1)[: len(held)] - layer
        values = pages[:, PAGE:].reshape(-1)[: len(held)]
        found.append([(int(k), int(v)) for k, v in zip(keys, values, strict=True)])
    assert found[0] == found[1]
    return found[0]


def attached(cache: KVCache, tokens: list[int], phases: bytes) -> CachedSequence:
    held = cache.add()
    cache.attach(held, tokens, phases)
    return held


def remembered(cache: KVCache, tokens: list[int], phases: bytes = b"") -> list[int]:
    """Compute a sequence, remember it, and let go of it; returns its pages."""
    held = cache.add()
    compute(cache, held, tokens, phases or bytes(len(tokens)))
    pages = [*held.pages]
    cache.recycle(held)
    return pages


def test_full_pages_are_shared_and_the_last_is_copied() -> None:
    cache = new_cache()
    pages = remembered(cache, [*range(10)])
    assert cache.pool.available == PAGES
    held = attached(cache, [*range(10), 77], bytes(11))
    assert held.tokens == [*range(10)]
    assert held.pages[:2] == pages[:2]
    assert held.pages[2] != pages[2]
    assert contents(cache, held) == [(token, PREFILLED) for token in range(10)]


def test_the_phase_counts() -> None:
    cache = new_cache()
    remembered(cache, [*range(8)], bytes([PREFILLED] * 6 + [DECODED] * 2))
    assert cache.count([*range(8)], bytes(8)) == 6
    assert cache.count([*range(8)], bytes([PREFILLED] * 6 + [DECODED] * 2)) == 8


def test_two_that_hold_the_same() -> None:
    """The one that was remembered first is found, and the other's page is free again."""
    cache = new_cache()
    first, second = cache.add(), cache.add()
    for held in (first, second):
        compute(cache, held, [*range(6)], bytes(6))
    pages = first.pages[0], second.pages[0]
    for held in (first, second):
        cache.remember(held)
    compute(cache, second, [6, 7, 8], bytes(3))
    cache.remember(second)
    cache.remove(first)
    cache.remove(second)
    held = attached(cache, [*range(9)], bytes(9))
    assert held.tokens == [*range(8)]
    assert held.pages[0] == pages[0] != pages[1]


def test_what_stands_last_is_forgotten_first() -> None:
    cache = new_cache(pages=4)
    remembered(cache, [*range(16)])
    other = cache.add()
    for kept in (12, 8, 4, 0):
        compute(cache, other, [100] * 4, bytes(4))
        assert cache.count([*range(16)], bytes(16)) == kept


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    cache = new_cache(pages=4)
    remembered(cache, [1] * 8)
    remembered(cache, [2] * 8)
    cache.remove(attached(cache, [1] * 8, bytes(8)))
    held = cache.add()
    compute(cache, held, [3] * 8, bytes(8))
    assert (cache.count([1] * 8, bytes(8)), cache.count([2] * 8, bytes(8))) == (8, 0)


def test_a_page_cannot_be_copied_without_room() -> None:
    """Its tokens are computed again then, and it is not overwritten while it is read."""
    cache = new_cache(pages=3)
    remembered(cache, [*range(6)])
    first = attached(cache, [*range(4)], bytes(4))
    other = cache.add()
    compute(cache, other, [9] * 4, bytes(4))
    held = attached(cache, [*range(6)], bytes(6))
    assert held.tokens == [*range(4)]
    assert cache.count([*range(6)], bytes(6)) == 6
    assert contents(cache, first) == [(token, PREFILLED) for token in range(4)]


def test_forgetting_leaves_what_is_in_use() -> None:
    cache = new_cache()
    remembered(cache, [*range(8)])
    held = attached(cache, [*range(8)], bytes(8))
    cache.forget()
    assert cache.count([*range(8)], bytes(8)) == 0
    assert contents(cache, held) == [(token, PREFILLED) for token in range(8)]
    cache.remove(held)
    assert cache.pool.available == PAGES
    assert cache.pool.idle == 0


def test_the_last_that_ended_are_remembered() -> None:
    """Of the others, what they had in common with one that is remembered or used."""
    cache = new_cache(recycled=2)
    common = [*range(8)]
    for token in (50, 60, 70):
        remembered(cache, [*common, token, token, token, token, token])
    found = [cache.count([*common, *[token] * 5], bytes(13)) for token in (50, 60, 70)]
    assert found == [8, 13, 13]
    remembered(cache, [*common, 60, 60, 60, 60, 60])  # once more
    remembered(cache, [*common, 80])
    found = [cache.count([*common, *[token] * 5], bytes(13)) for token in (50, 60, 70, 80)]
    assert found == [8, 13, 8, 9]
    held = attached(cache, [*common, *[60] * 5], bytes(13))
    for token in (1, 2, 3):
        remembered(cache, [token] * 5)
    assert cache.count([*common, *[60] * 4], bytes(12)) == 12  # in use
    cache.remove(held)
    assert cache.pool.available == PAGES


def test_none_is_remembered() -> None:
    cache = new_cache(recycled=0)
    remembered(cache, [*range(10)])
    held = cache.add()
    compute(cache, held, [*range(10)], bytes(10))
    cache.remember(held)
    assert cache.count([*range(10)], bytes(10)) == 0
    cache.remove(held)
    assert (cache.pool.available, cache.pool.idle) == (PAGES, 0)


class Conversations(RuleBasedStateMachine):
    """Prompts of few different tokens, so that they often begin alike; some grow, some go."""

    RECYCLED: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.cache = new_cache(recycled=self.RECYCLED)
        self.held: list[CachedSequence] = []
        self.ever: list[tuple[list[int], bytes]] = []

    @rule(prompt=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 1)), min_size=1, max_size=20))
    def read(self, prompt: list[tuple[int, int]]) -> None:
        if not self.cache.has_row:
            return
        tokens, phases = [token for token, _ in prompt], bytes(phase for _, phase in prompt)
        expected = self.cache.count(tokens, phases)
        held = attached(self.cache, tokens, phases)
        assert expected - PAGE < len(held) <= expected  # less, where there is no room for a copy
        assert held.tokens == tokens[: len(held)]
        assert len(held) <= max((common(tokens, phases, *one) for one in self.ever), default=0)
        try:
            compute(self.cache, held, tokens[len(held) :], phases[len(held) :])
        except OutOfPages:
            self.cache.remove(held)
            return
        self.cache.remember(held)
        self.ever.append((tokens, phases))
        self.held.append(held)

    @rule(which=st.integers(0, 2), tokens=st.lists(st.integers(1, 2), min_size=1, max_size=5))
    def write(self, which: int, tokens: list[int]) -> None:
        if which >= len(self.held) or len(self.held[which]) + len(tokens) > LENGTH:
            return
        held = self.held[which]
        try:
            compute(self.cache, held, tokens, bytes([DECODED]) * len(tokens))
        except OutOfPages:
            return
        self.ever.append(([*held.tokens], bytes(held.phases)))

    @rule(which=st.integers(0, 2), keeps=st.booleans())
    def leave(self, which: int, keeps: bool) -> None:
        if which < len(self.held):
            held = self.held.pop(which)
            if keeps:
                self.cache.recycle(held)
            else:
                self.cache.remove(held)

    @rule()
    def forget(self) -> None:
        self.cache.forget()

    @invariant()
    def nothing_in_use_is_overwritten(self) -> None:
        for held in self.held:
            wanted = [*zip(held.tokens, held.phases, strict=True)]
            assert contents(self.cache, held) == wanted

    @invariant()
    def each_page_is_used_idle_or_free(self) -> None:
        pool = self.cache.pool
        used = {page for held in self.held for page in held.pages}
        assert pool.available == PAGES - len(used)
        assert 0 <= pool.idle <= pool.available


def common(tokens: list[int], phases: bytes, other: list[int], other_phases: bytes) -> int:
    pairs = [*zip(tokens, phases, strict=True)]
    others = [*zip(other, other_phases, strict=True)]
    return next((n for n in range(len(pairs), 0, -1) if pairs[:n] == others[:n]), 0)


class FewConversations(Conversations):
    RECYCLED = 2

    @invariant()
    def few_are_remembered(self) -> None:
        assert len(self.cache._ended) <= 2


SETTINGS = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestConversations = Conversations.TestCase
TestConversations.settings = SETTINGS
TestFewConversations = FewConversations.TestCase
TestFewConversations.settings = SETTINGS


def test_a_page_that_is_not_in_use_cannot_be_kept() -> None:
    cache = new_cache()
    with pytest.raises(ValueError, match="page 3 is not in use"):
        cache.pool.keep(3)
