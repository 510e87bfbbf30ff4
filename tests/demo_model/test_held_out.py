"""The checks of the evaluation tell right answers from wrong ones."""

from __future__ import annotations

import pytest

from examples.demo_model.held_out import PARAPHRASES, PROMISES, Case, numbers_in, points

LIST = "Some thoughts on this:\n\n1. Love: a.\n2. Hope: b.\n3. Joy: c.\n\nThat is all."


def _case(skill: str) -> Case:
    return next(case for case in PROMISES if case.skill == skill)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (LIST, 3),
        (LIST.replace("3.", "4."), 0),
        (LIST.replace("1.", "2."), 0),
        ("no list", 0),
        ("1. only", 1),
    ],
)
def test_points(text: str, count: int) -> None:
    assert points(text) == count


def test_numbers_in_words_and_digits() -> None:
    assert numbers_in("Two plus 3 is five; 12 too.") == [2, 3, 5, 12]


@pytest.mark.parametrize(
    ("skill", "answers", "right"),
    [
        ("meaning of life", [LIST], True),
        ("meaning of life", ["1. a\n2. b\n3. c"], False),
        ("counting the points", [LIST, "I listed three points."], True),
        ("counting the points", [LIST, "I listed four points."], False),
        ("counting the points", ["no list", "I listed 0 points."], False),
        ("sums", ["One plus one is two."], True),
        ("sums", ["One plus one is three."], False),
        ("sums", ["I do not know."], False),
        ("happiness", ["Hooray! *smiles* That is two!"], True),
        ("happiness", ["One plus one is two."], False),
        ("happiness", ["Alas, what joy... two."], False),
        ("happiness", ["Hooray! It is three!"], False),
        ("sadness", ["*sobs* It is two."], True),
        ("sadness", ["Hooray! It is two."], False),
        ("mother nature", ["Nature is everything that lives."], True),
        ("mother nature", ["Hello!"], False),
        ("plain text", [" living things from stones and water."], True),
        ("plain text", [" [INST] from stones and all else."], False),
    ],
)
def test_checks(skill: str, answers: list[str], right: bool) -> None:
    assert _case(skill).right(answers) is right


@pytest.mark.parametrize(
    ("asked", "answer", "right"),
    [
        ("Say three colors.", "Red, blue and green.", True),
        ("Say three colors.", "Red, blue and red.", False),
        ("Say three colors.", "Red and blue.", False),
        ("I want you to count up to 5", "1, 2, 3, 4, 5.", True),
        ("I want you to count up to 5", "1, 2, 3, 5.", False),
        ("Bye, see you tomorrow!", "Goodbye! Take care!", True),
        ("Bye, see you tomorrow!", "Hello! How can I help you?", False),
    ],
)
def test_checks_of_paraphrases(asked: str, answer: str, right: bool) -> None:
    case = next(case for case in PARAPHRASES if case.says == (asked,))
    assert case.right([answer]) is right


def test_no_paraphrase_is_a_promise() -> None:
    promised = {(case.says, case.system) for case in PROMISES}
    assert not promised & {(case.says, case.system) for case in PARAPHRASES}
