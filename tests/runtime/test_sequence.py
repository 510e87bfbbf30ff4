"""Pages and the sequences that use them, against a plain model of both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlc_llm.runtime.page_pool import OutOfPages, PagePool
from mlc_llm.runtime.sequence import (
    DECODED,
    PREFILLED,
    CachedSequence,
    common_length,
    phase_runs,
    prompt_phases,
)
from mlc_llm.testing import raises

PAGE, PAGES = 4, 12


def sequence(pool: PagePool, number: int = 0) -> CachedSequence:
    return CachedSequence(pool, number, np.full(PAGES, -1, np.int32), PAGE)


def append(held: CachedSequence, tokens: list[int], phase: int = PREFILLED) -> None:
    held.reserve(len(held) + len(tokens))
    held.extend(tokens, phase)


def test_pages_are_taken_as_they_are_needed() -> None:
    pool = PagePool(3)
    held = sequence(pool)
    append(held, [1] * 4)
    assert (len(held.pages), pool.available) == (1, 2)
    append(held, [2])
    assert (len(held.pages), pool.available) == (2, 1)
    with raises("generation-failed", 3, error=OutOfPages):
        append(held, [3] * 20)
    assert held.tokens == [1, 1, 1, 1, 2]
    held.truncate(0)
    assert pool.available == 3


def share(child: CachedSequence, parent: CachedSequence, pages: int) -> None:
    """Make a sequence begin with full pages of another, which are known by any numbers."""
    child.truncate(0)
    for index in range(pages):
        part = slice(index * PAGE, (index + 1) * PAGE)
        child.share(parent.pages[index], 100 + index, parent.tokens[part], parent.phases[part])
        if index == len(parent.known):
            parent.known.append(100 + index)


def test_a_page_that_is_shared_is_not_free() -> None:
    pool = PagePool(4)
    parent, child = sequence(pool), sequence(pool, 1)
    append(parent, [*range(10)])
    share(child, parent, 2)
    assert child.tokens == [*range(8)]
    assert child.pages == parent.pages[:2]
    parent.truncate(0)
    assert pool.available == 2
    taken = {pool.take(), pool.take()}
    assert taken.isdisjoint(child.pages)
    for page in taken:
        pool.release(page)
    child.truncate(0)
    assert pool.available == 4


def test_a_shared_page_is_not_written_to() -> None:
    """Going back into a page that others may read gives that page up."""
    pool = PagePool(4)
    parent, child = sequence(pool), sequence(pool, 1)
    append(parent, [*range(8)])
    share(child, parent, 2)
    child.truncate(6)
    assert child.tokens == [*range(4)]
    child.truncate(4)
    assert child.tokens == [*range(4)]
    append(parent, [*range(3)])
    parent.truncate(9)  # which is in a page that nobody knows
    assert parent.tokens == [*range(8), 0]


def test_what_is_not_in_use_cannot_be_released_or_shared() -> None:
    pool = PagePool(2)
    page = pool.take()
    pool.release(page)
    for wrong in (page, 7, -1):
        with pytest.raises(ValueError, match=f"page {wrong} is not in use"):
            pool.release(wrong)
        with pytest.raises(ValueError, match=f"page {wrong} is not in use"):
            pool.share(wrong)


class Pages(RuleBasedStateMachine):
    """Sequences that grow, go back and fork at random; memory is what was written to each slot."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(PAGES)
        self.held = [sequence(self.pool, number) for number in range(3)]
        self.wanted: list[list[int]] = [[] for _ in self.held]
        self.memory = np.full((PAGES, PAGE), -1)
        self.next = 0

    @rule(which=st.integers(0, 2), count=st.integers(1, 11))
    def grow(self, which: int, count: int) -> None:
        held = self.held[which]
        before, tokens = len(held), [*range(self.next, self.next + count)]
        if before + count > PAGE * PAGES:
            with pytest.raises(ValueError, match="longer than the cache's 48"):
                append(held, tokens)
            return
        try:
            append(held, tokens)
        except OutOfPages:
            assert self.pool.available == 0
            return
        self.next += count
        self.wanted[which] += tokens
        for position in range(before, len(held)):
            page = held.pages[position // PAGE]
            assert self.pool.users(page) == 1  # or it would be written to under another's eyes
            self.memory[page, position % PAGE] = held.tokens[position]

    @rule(which=st.integers(0, 2), share=st.floats(0, 1))
    def go_back(self, which: int, share: float) -> None:
        held = self.held[which]
        length = int(share * len(held))
        held.truncate(length)
        assert length - PAGE < len(held) <= length
        del self.wanted[which][len(held) :]

    @rule(which=st.integers(0, 2), other=st.integers(0, 2), part=st.floats(0, 1))
    @precondition(lambda self: True)
    def fork(self, which: int, other: int, part: float) -> None:
        if which == other:
            return
        length = int(part * len(self.held[other]))
        share(self.held[which], self.held[other], length // PAGE)
        kept = len(self.held[which])
        assert kept == length // PAGE * PAGE
        self.wanted[which] = self.wanted[other][:kept]

    @invariant()
    def each_sequence_finds_its_tokens(self) -> None:
        for held, wanted in zip(self.held, self.wanted, strict=True):
            assert held.tokens == wanted
            assert len(held.phases) == len(wanted)
            assert held._row[: len(held.pages)].tolist() == held.pages
            found = self.memory[held.pages].reshape(-1)[: len(wanted)]
            assert found.tolist() == wanted

    @invariant()
    def every_page_has_its_users(self) -> None:
        used = [page for held in self.held for page in held.pages]
        assert [self.pool.users(page) for page in range(PAGES)] == [
            used.count(page) for page in range(PAGES)
        ]
        assert self.pool.available == PAGES - len(set(used))


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_prefix_is_held_where_tokens_and_phases_are_equal() -> None:
    phases = [PREFILLED] * 3 + [DECODED] * 2
    held = [5, 6, 7, 8, 9], phases
    assert common_length(*held, [5, 6, 7, 8, 9, 1], [*phases, PREFILLED]) == 5
    assert common_length(*held, [5, 6, 7, 8], phases[:4]) == 4
    assert common_length(*held, [5, 6, 1, 8], phases[:4]) == 2
    assert common_length(*held, [5, 6, 7, 8, 9], [PREFILLED] * 5) == 3
    assert common_length(*held, [], []) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4), st.integers(0, 3))
def test_the_phases_of_a_prompt(parts: list[tuple[int, int]], last: int) -> None:
    """Generated tokens, each one before them, and the last of all are decoded."""
    generated, kinds = [], ""
    for text, answer in parts:
        kinds += "p" * text
        generated.append(range(len(kinds), len(kinds) + answer))
        kinds += "g" * answer
    kinds += "p" * last
    wanted = [
        kind == "g" or kinds[index + 1 : index + 2] in ("g", "") for index, kind in enumerate(kinds)
    ]
    spans = [span for span in generated if span]
    found = prompt_phases(len(kinds), spans)
    assert [bool(phase) for phase in found] == wanted
    assert sum(count for _, count in phase_runs(found)) == len(kinds)
