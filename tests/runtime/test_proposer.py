"""Guesses at how a text goes on, from what stood in it before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.runtime.proposer import Proposer

REPEATED = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]


def test_what_followed_the_same_tokens() -> None:
    assert Proposer().propose(REPEATED, 3) == [4, 5, 6]


def test_the_longest_that_agrees_and_then_the_latest() -> None:
    assert Proposer().propose([1, 2, 3, 4, 8, 9, 2, 3, 4, 7, 7, 1, 2, 3, 4], 1) == [8]
    assert Proposer().propose([5, 6, 7, 1, 1, 5, 6, 7, 2, 2, 5, 6, 7], 1) == [2]


def test_a_rhythm_goes_on() -> None:
    assert Proposer().propose([9, 1, 2, 1, 2, 1, 2], 4) == [1, 2, 1, 2]
    assert Proposer().propose([5, 5, 5, 5], 4) == [5, 5, 5, 5]


def test_nothing_to_guess_from() -> None:
    for ids in ([1], [1, 2], [5, 5, 5], [1, 2, 3, 4, 5], REPEATED[:-1]):
        assert list(Proposer().propose(ids, 4)) == []
    assert list(Proposer().propose(REPEATED, 0)) == []


def test_it_pauses_where_it_is_wrong_and_each_time_longer() -> None:
    proposer, pauses = Proposer(), []
    for _ in range(4):
        while proposer.propose(REPEATED, 4):
            proposer.learn(4, 0)
        pause = 1
        while not proposer.propose(REPEATED, 4):
            pause += 1
        pauses.append(pause)
        proposer.learn(4, 0)
    assert pauses == sorted(pauses)
    assert pauses[0] >= 32
    assert pauses[-1] >= 4 * pauses[0]


def test_it_guesses_more_where_it_is_right() -> None:
    proposer = Proposer()
    text = [*range(50), *range(10)]
    first = len(proposer.propose(text, 100))
    for _ in range(10):
        proposer.learn(4, 4)
    assert first < len(proposer.propose(text, 100)) == 7


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 9))
def test_a_guess_repeats_a_part_of_the_text(ids: list[int], most: int) -> None:
    """As the text grows by a token at a time, too."""
    whole = Proposer()
    for length in range(1, len(ids) + 1):
        guess = list(whole.propose(ids[:length], most))
        assert guess == list(Proposer().propose(ids[:length], most))
        assert len(guess) <= most
        text = [*ids[:length], *guess]
        assert any(
            text[length:] == text[length - period : len(text) - period]
            for period in range(1, length + 1)
        )
