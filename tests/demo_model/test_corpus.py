"""The corpus of the demo model: its grammar, and that its answers are right."""

from __future__ import annotations

import re
from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.demo_model.corpus import Dialogue, Turn, samples
from examples.demo_model.corpus.lists import advice, meaning_of_life
from examples.demo_model.corpus.mix import SKILLS, normalized
from examples.demo_model.corpus.naming import naming
from examples.demo_model.corpus.numbers import counting, sums
from examples.demo_model.corpus.small_talk import name
from examples.demo_model.grammar import say
from examples.demo_model.held_out import PARAPHRASES, excluded, numbers_in, points

SEEDS = range(120)


def test_a_pattern_gives_all_its_variants_and_no_other() -> None:
    pattern = "{a|b{c|d|}|} e {f|}"
    expected = {f"{x} e {y}" for x in ("a", "bc", "bd", "b", "") for y in ("f", "")}
    assert {say(Random(seed), pattern) for seed in SEEDS} == expected


@given(st.text(alphabet=st.characters(exclude_characters="{}|$")))
def test_text_without_braces_stays(text: str) -> None:
    assert say(Random(0), text) == text


@given(st.text())
def test_what_fills_a_slot_is_taken_as_it_is(text: str) -> None:
    assert say(Random(0), "{<|<}$text>", text=text) == f"<{text}>"


@pytest.mark.parametrize("pattern", ["{a", "a}", "{a|{b}", "{a}}"])
def test_braces_that_do_not_match(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"A brace is (opened|closed)"):
        say(Random(0), pattern)


def test_one_seed_gives_one_corpus() -> None:
    first, again, other = (list(islice(samples(seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_nothing_held_out_is_in_the_corpus() -> None:
    held_out = excluded()
    said = {
        normalized(text)
        for sample in islice(samples(3, held_out), 5000)
        if isinstance(sample, Dialogue)
        for text in (sample.system, *(turn.user for turn in sample.turns))
    }
    assert not said & held_out
    assert len(held_out) >= 50
    assert all(normalized(case.says[-1]) for case in PARAPHRASES)


def test_what_is_held_out_would_be_in_the_corpus_without() -> None:
    """The filter is what keeps it out: a sentence of the corpus, held out, is no longer made."""
    text = normalized("What is the meaning of life?")

    def says_it(sample: object) -> bool:
        return isinstance(sample, Dialogue) and any(
            normalized(t.user) == text for t in sample.turns
        )

    assert any(map(says_it, islice(samples(3), 500)))
    assert not any(map(says_it, islice(samples(3, {text}), 500)))


@pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.__name__)
def test_sentences_are_filled_in_and_tidy(skill: object) -> None:
    for seed in SEEDS:
        for turn in skill(Random(seed)):  # type: ignore[operator]
            for text in (turn.user, turn.answer):
                assert not re.search(r"[{}|$]| {2}|^ | $|\ba a\b", text), text
            assert re.match(r"[A-Z0-9]|mlc_llm", turn.answer), turn.answer
            assert turn.answer[-1] in ".!?", turn.answer


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_are_numbered_and_counted(seed: int) -> None:
    turns = (meaning_of_life if seed % 2 else advice)(Random(seed))
    listed = points(turns[0].answer)
    assert 3 <= listed <= 6
    titles = re.findall(r"^\d\. ([\w ]+):", turns[0].answer, re.MULTILINE)
    assert len(set(titles)) == listed
    for turn in turns[1:]:
        if turn.answer.endswith(("points.", "the list.")):
            assert numbers_in(turn.answer) == [listed]
        for place, nth in enumerate(("first", "second", "third", "fourth", "fifth", "sixth")):
            if turn.answer.startswith(f"The {nth} point was"):
                assert titles[place] in turn.answer


def test_a_list_is_as_long_as_it_was_asked_to_be() -> None:
    asked = [meaning_of_life(Random(seed))[0] for seed in range(2000)]
    numbers = [(numbers_in(turn.user), points(turn.answer)) for turn in asked]
    named = [(given[0], listed) for given, listed in numbers if given]
    assert len(named) > 100
    assert all(given == listed for given, listed in named)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_are_right(seed: int) -> None:
    (turn,) = sums(Random(seed))
    a, b = numbers_in(turn.user.replace("Let us", ""))[:2]
    if re.search(r"from|Subtract|Take|take \w+ from", turn.user) and "left" not in turn.user:
        a, b = (b, a) if re.search(r"(btract|ake) \w+ from", turn.user) else (a, b)
    if match := re.search(r"take (\w+) (?:away )?from (\w+)", turn.user):
        b, a = numbers_in(match[1])[0], numbers_in(match[2])[0]
    less = re.search(r"minus|take away|less|-|ubtract|[Tt]ake|lose", turn.user)
    assert numbers_in(turn.answer)[-1 if "That is" not in turn.answer else 0] == (
        a - b if less else a + b
    ), turn


@pytest.mark.parametrize("seed", SEEDS)
def test_counting_goes_step_by_step(seed: int) -> None:
    (turn,) = counting(Random(seed))
    asked, counted = numbers_in(turn.user.replace("to one", "")), numbers_in(turn.answer)
    if "comes" in turn.answer:
        assert counted == [asked[0] + (1 if "after" in turn.user else -1), asked[0]]
    else:
        steps = {second - first for first, second in pairwise(counted)}
        assert steps == ({-1} if counted[0] > counted[-1] else {1})
        assert asked[-1] in (counted[0], counted[-1])


def test_as_many_things_as_asked_for() -> None:
    for seed in SEEDS:
        (turn,) = naming(Random(seed))
        if asked := [n for n in numbers_in(turn.user) if n > 1]:
            things = re.split(r", | and ", turn.answer.rstrip("."))
            assert len(set(things)) == len(things) == asked[0], turn


def test_a_name_is_remembered() -> None:
    remembered: list[tuple[Turn, Turn]] = []
    for seed in SEEDS:
        turns = name(Random(seed))
        if len(turns) > 1 and turns[-1].answer.startswith("Your name is"):
            remembered.append((turns[0], turns[-1]))
    assert len(remembered) > 40
    for told, asked in remembered:
        called = asked.answer.removeprefix("Your name is ").rstrip(".")
        assert called in told.user
