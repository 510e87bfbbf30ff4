"""Numbers as words, sums and counting."""

from __future__ import annotations

from random import Random

from examples.demo_model.corpus.turn import Turn
from examples.demo_model.grammar import say

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
).split()

ASK = "{What is|What's|How much is|Tell me what is|Calculate|Work out|Can you tell me|Do you know}"
ADD = (
    ASK + " $a {plus|and|+} $b?",
    ASK + " $a {plus|and} $b?",
    "{Add|Add up} $a {and|to} $b.",
    "{Please add|Let us add} $a {and|to} $b{ for me| together|}.",
    "{How much|What} {does|would|will} $a {plus|and|+} $b {make|be|give|come to}?",
    "{I wonder|I'd like to know|I want to know|Tell me} {how much|what} $a plus $b is.",
    "{What do you get|What do I get|What comes out} {if|when} {you|I} add $a {and|to} $b?",
    "{What is|Give me|Tell me} the sum of $a and $b?",
    "$a {plus|+} $b?",
    "$a {plus|+} $b {is|equals|makes} what?",
    "How {much|many} {do|does} $a and $b make?",
    "{If I have|I have} $a {apples|coins|books} and get $b more, how many {do I have|are there}?",
)
TAKE = (
    ASK + " $a {minus|take away|less|-} $b?",
    "{Subtract|Take|Please subtract|Please take} $b from $a.",
    "{How much|What} {does|would|will} $a minus $b {make|be|give|leave}?",
    "{What is left|What remains} {if|when} {you|I} take $b {away |}from $a?",
    "$a {minus|-} $b?",
    "{If I have|I have} $a {apples|coins|books} and lose $b, how many {do I have|are left}?",
)
SUM_ANSWERS = (
    "$A plus $b is $c.",
    "$A plus $b is $c.",
    "$A plus $b equals $c.",
    "The answer is $c.",
    "That is $c: $a plus $b is $c.",
)
DIFFERENCE_ANSWERS = (
    "$A minus $b is $c.",
    "$A minus $b is $c.",
    "The answer is $c.",
    "$A minus $b equals $c.",
)


def number(value: int, digits: bool) -> str:
    """Write a number up to twenty."""
    return str(value) if digits else WORDS[value]


def sums(rng: Random) -> list[Turn]:
    """A sum or a difference of small numbers, in words or digits as the user wrote them."""
    if rng.random() < 0.75:
        a, b = (1, 1) if rng.random() < 0.12 else (rng.randint(0, 10), rng.randint(0, 10))
        return [_arithmetic(rng, a, b, a + b, ADD, SUM_ANSWERS)]
    a = rng.randint(0, 10)
    b = rng.randint(0, a)
    return [_arithmetic(rng, a, b, a - b, TAKE, DIFFERENCE_ANSWERS)]


def _arithmetic(
    rng: Random, a: int, b: int, c: int, questions: tuple[str, ...], answers: tuple[str, ...]
) -> Turn:
    digits = rng.random() < 0.4
    slots = {name: number(value, digits) for name, value in (("a", a), ("b", b), ("c", c))}
    user = say(rng, questions, **slots)
    answer = say(rng, answers, **slots, A=slots["a"].capitalize())
    return Turn(user[0].upper() + user[1:], answer)


UP = (
    "Count {up |}to $b{ for me| please|}.",
    "{Count|Please count|Start counting} from {one|1} to $b.",
    "How do you count {up |}to $b?",
    "{Say|List|Write} the numbers {from one |from 1 |up |}to $b.",
)
RANGE = (
    "Count from $a {up |}to $b.",
    "{Say|List|Write} the numbers {from|between} $a {to|and} $b.",
    "{Count|Start counting} at $a and {stop|end} at $b.",
)
DOWN = (
    "Count {down|backwards|down to one|backwards to one} from $a.",
    "{Give me|Do|Start} a countdown from $a.",
)
AFTER = (
    "{What|Which} number comes {right |}after $a?",
    "What comes after $a?",
    "{What|Which} is the number after $a?",
)
BEFORE = ("{What|Which} number comes {right |}before $a?", "What comes before $a?")


def counting(rng: Random) -> list[Turn]:
    """Counting up, down, and one step further."""
    digits = rng.random() < 0.5
    kind = rng.choice(("up", "up", "up", "range", "down", "after", "before"))
    if kind == "up":
        b = rng.choice((3, 4, 5, 5, 6, 7, 8, 9, 10, 10, 12, 15, 20))
        return [Turn(say(rng, UP, b=number(b, digits)), _series(1, b))]
    if kind == "range":
        a = rng.randint(1, 9)
        b = rng.randint(a + 2, min(a + 8, 15))
        user = say(rng, RANGE, a=number(a, digits), b=number(b, digits))
        return [Turn(user, _series(a, b))]
    if kind == "down":
        a = rng.choice((3, 4, 5, 5, 6, 7, 8, 9, 10, 10))
        return [Turn(say(rng, DOWN, a=number(a, digits)), _series(a, 1))]
    a = rng.randint(1, 19)
    step, patterns = (1, AFTER) if kind == "after" else (-1, BEFORE)
    given, found = number(a, digits), number(a + step, digits)
    return [Turn(say(rng, patterns, a=given), f"{found.capitalize()} comes {kind} {given}.")]


def _series(first: int, last: int) -> str:
    step = 1 if last >= first else -1
    return ", ".join(str(value) for value in range(first, last + step, step)) + "."
