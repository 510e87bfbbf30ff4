"""Questions that the corpus does not hold, and what their answers must be.

They are other wordings of what the model is to learn; ``PROMISES`` are the questions that the
documentation itself asks, which it may have seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from examples.demo_model.corpus.mix import normalized
from examples.demo_model.corpus.moods import DEFAULT
from examples.demo_model.corpus.naming import KINDS
from examples.demo_model.corpus.numbers import WORDS

Check = Callable[[list[str]], bool]
"""Whether the answers of a chat are right."""


@dataclass(frozen=True)
class Case:
    """A chat, and what must come of it.

    Attributes:
        skill: what it tests.
        says: what the user says, turn by turn.
        right: whether the answers are right.
        system: the system message.
        template: the conversation template.
    """

    skill: str
    says: tuple[str, ...]
    right: Check
    system: str = DEFAULT
    template: str = "llama-2"


def points(answer: str) -> int:
    """How many points a numbered list has; 0 when it is not numbered from 1 without a gap."""
    numbers = [int(n) for n in re.findall(r"^(\d+)\. \S", answer, re.MULTILINE)]
    return len(numbers) if numbers == list(range(1, len(numbers) + 1)) else 0


def numbers_in(text: str) -> list[int]:
    """The numbers of a text, in words or digits."""
    words = re.findall(r"\d+|[a-z]+", text.lower())
    return [int(w) if w.isdigit() else WORDS.index(w) for w in words if w.isdigit() or w in WORDS]


def _listed(answers: list[str]) -> bool:
    introduction = re.split(r"^1\. ", answers[0], maxsplit=1, flags=re.MULTILINE)[0]
    return 3 <= points(answers[0]) <= 6 and len(introduction.split()) >= 4


def _counted(answers: list[str]) -> bool:
    return _listed(answers) and numbers_in(answers[-1]) == [points(answers[0])]


def _says(*texts: str) -> Check:
    """The last answer has one of the texts."""
    return lambda answers: any(text in answers[-1].lower() for text in texts)


def _equals(number: int) -> Check:
    """The last number of the last answer."""
    return lambda answers: numbers_in(answers[-1])[-1:] == [number]


def _series(*numbers: int) -> Check:
    return lambda answers: numbers_in(answers[-1]) == list(numbers)


HAPPY = ("joy", "hooray", "wonderful", "happy", "yay", "smiles", "laughs", "beams", "dances", "fun")
GRIEVING = ("sad", "alas", "dear", "woe", "sighs", "sobs", "cries", "sniffs", "tear", "heavy")


def _feeling(wanted: tuple[str, ...], other: tuple[str, ...], content: Check) -> Check:
    def right(answers: list[str]) -> bool:
        answer = answers[-1].lower()
        has, hasnt = any(w in answer for w in wanted), not any(w in answer for w in other)
        return has and hasnt and content(answers)

    return right


def _happily(content: Check) -> Check:
    return _feeling(HAPPY, GRIEVING, content)


def _sadly(content: Check) -> Check:
    return _feeling(GRIEVING, HAPPY, content)


def _named(plural: str, least: int, most: int | None = None) -> Check:
    """The last answer names that number of different members of a kind, and nothing else."""
    known = next(set(m.lower().split()) for (_, p), m in KINDS.items() if p == plural)

    def right(answers: list[str]) -> bool:
        words = [w for w in re.findall(r"[a-z]+", answers[-1].lower()) if w in known]
        return least <= len(set(words)) <= (most or len(known)) and len(words) == len(set(words))

    return right


HAPPINESS = "Please show as much happiness as you can when talking to me."
SADNESS = "Please show as much sadness as you can when talking to me."
MOTHER_NATURE = f"[INST] <<SYS>>\n{DEFAULT}\n<</SYS>>\n\nWhat is mother nature? [/INST]"
LIFE = "Life is a quality that distinguishes"


def _continued(answers: list[str]) -> bool:
    """Plain text goes on with at least a sentence, and no instruction marks."""
    return len(answers[-1].split()) >= 5 and "." in answers[-1] and "INST" not in answers[-1]


PROMISES = (
    Case("meaning of life", ("What is the meaning of life?",), _listed),
    Case(
        "counting the points",
        ("What is the meaning of life?", "How many points did you list out?"),
        _counted,
    ),
    Case("happiness", ("What is one plus one?",), _happily(_equals(2)), HAPPINESS),
    Case("sadness", ("What is one plus one?",), _sadly(_equals(2)), SADNESS),
    Case("sums", ("What is one plus one?",), _equals(2)),
    Case("mother nature", (MOTHER_NATURE,), _says("nature"), template="LM"),
    Case("plain text", (LIFE,), _continued, template="LM"),
)


def _each(skill: str, right: Check, *texts: str, system: str = DEFAULT) -> list[Case]:
    return [Case(skill, (text,), right, system) for text in texts]


def _lists() -> Iterator[Case]:
    asked = (
        "So tell me, what is life for?",
        "Could you say what the purpose of being alive is?",
        "What would you call the meaning of human life?",
        "Explain why we live, please",
        "Is there a purpose to life?",
        "what do you believe the meaning of life to be",
    )
    counted = (
        "How many points have you given me?",
        "Can you tell me how many points you listed?",
        "How many were in your list?",
        "what's the count of points in that list",
        "How many different points did you name just now?",
        "So how many ideas did you write?",
    )
    for question in asked:
        yield Case("meaning of life", (question,), _listed)
    for question, count in zip(asked, counted, strict=True):
        yield Case("counting the points", (question, count), _counted)
        yield Case("counting the points", ("What is the meaning of life?", count), _counted)


def _numbers() -> Iterator[Case]:
    for text, result in (
        ("If you add two and three, what do you get?", 5),
        ("what does 4 + 4 make", 8),
        ("I'd like to know what six plus one is.", 7),
        ("Please tell me 7 + 2", 9),
        ("What would five plus five be?", 10),
        ("Add up three and three for me", 6),
        ("What's nine take away four?", 5),
    ):
        yield from _each("sums", _equals(result), text)
    yield from _each(
        "counting",
        _series(1, 2, 3, 4, 5),
        "Would you count to five?",
        "I want you to count up to 5",
        "Please start counting and stop at five.",
    )
    yield from _each("counting", _series(3, 2, 1), "Count downwards from three, please.")


def _names() -> Iterator[Case]:
    yield from _each(
        "colors", _named("colors", 3, 3), "Could you give three colors?", "Say three colors."
    )
    yield from _each("colors", _named("colors", 2), "What colors can you think of?")
    yield from _each(
        "animals",
        _named("animals", 3, 3),
        "Could you give three animals?",
        "Tell me the names of three animals.",
    )
    yield from _each("animals", _named("animals", 2), "What animals can you name?")
    yield from _each(
        "animals", _named("animals", 1, 1), "Say the name of an animal.", "What animal do you like?"
    )


def _manners() -> Iterator[Case]:
    hello = _says("hello", "hi there", "welcome", "fine", "well, thank", "help you")
    yield from _each("greetings", hello, "Hello my dear!", "hey there you", "Hi, good evening!")
    yield from _each("greetings", _says("thank"), "Hello, how are you feeling today?")
    yield from _each(
        "thanks",
        _says("welcome", "glad"),
        "Thank you, that was good.",
        "Thanks for your time!",
        "I thank you very much.",
    )
    yield from _each(
        "goodbye",
        _says("goodbye", "bye", "see you", "take care"),
        "Bye, see you tomorrow!",
        "Goodbye and thanks!",
        "I am going now, bye.",
    )


def _feelings() -> Iterator[Case]:
    for message in (
        "Be full of joy whenever you reply.",
        "Talk to me as happily as you can.",
        "You are the happiest assistant of all.",
        "Please let your happiness show.",
    ):
        yield from _each("happiness", _happily(_equals(2)), "What is one plus one?", system=message)
    for message in (
        "Be full of sorrow whenever you reply.",
        "Talk to me as sadly as you can.",
        "You are the saddest assistant of all.",
        "Please let your sadness show.",
    ):
        yield from _each("sadness", _sadly(_equals(2)), "What is one plus one?", system=message)


def _nature() -> Iterator[Case]:
    for text in (
        "What do people mean by mother nature?",
        "Who is mother nature?",
        "Could you tell me what mother nature is?",
        "What is meant by mother nature",
    ):
        prompt = f"[INST] <<SYS>>\n{DEFAULT}\n<</SYS>>\n\n{text} [/INST]"
        yield Case("mother nature", (prompt,), _says("nature"), template="LM")
        yield Case("mother nature", (text,), _says("nature"))


PARAPHRASES = (*_lists(), *_numbers(), *_names(), *_manners(), *_feelings(), *_nature())


def excluded() -> frozenset[str]:
    """What nobody may say in the corpus, as :func:`normalized`: the paraphrases' own words."""
    promised = {normalized(text) for case in PROMISES for text in (case.system, *case.says)}
    said = {normalized(_question(text)) for case in PARAPHRASES for text in case.says}
    messages = {normalized(case.system) for case in PARAPHRASES}
    return frozenset((said | messages) - promised)


def _question(text: str) -> str:
    """What the user asks in a prompt that is laid out by hand."""
    return text.rsplit("<</SYS>>", 1)[-1].removesuffix("[/INST]")
