"""The mixture: which skills meet in a dialogue, how often, and how sloppily the user types."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random

from examples.demo_model.corpus.facts import facts, unknown
from examples.demo_model.corpus.lists import advice, meaning_of_life, no_list
from examples.demo_model.corpus.moods import MOOD_WEIGHTS, MOODS, Mood, system_message
from examples.demo_model.corpus.naming import calendar, naming, qualities
from examples.demo_model.corpus.numbers import counting, sums
from examples.demo_model.corpus.prose import prose
from examples.demo_model.corpus.small_talk import name, small_talk
from examples.demo_model.corpus.turn import Skill, Turn
from examples.demo_model.grammar import say

SKILLS: dict[Skill, float] = {
    meaning_of_life: 4.0,
    advice: 2.0,
    sums: 4.0,
    counting: 1.5,
    naming: 3.0,
    qualities: 1.0,
    calendar: 0.7,
    small_talk: 4.0,
    name: 2.0,
    facts: 3.0,
    unknown: 1.5,
}
PROSE = 0.1
RAW = 0.15
TURNS = (1, 1, 1, 2, 2, 3, 4)


@dataclass(frozen=True)
class Dialogue:
    """A conversation with one system message.

    Attributes:
        system: the system message.
        turns: one or more.
        raw: whether the prompt is laid out as a user of the template ``LM`` writes it.
    """

    system: str
    turns: tuple[Turn, ...]
    raw: bool = False


Sample = Dialogue | str
"""A dialogue, or plain text."""


def samples(seed: int, held_out: Collection[str] = ()) -> Iterator[Sample]:
    """Make samples without end.

    Args:
        seed: the same seed gives the same samples.
        held_out: what neither a user nor a system message may say, as :func:`normalized`.
    """
    rng = Random(seed)
    while True:
        if rng.random() < PROSE:
            yield prose(rng)
            continue
        dialogue = _dialogue(rng)
        said = (dialogue.system, *(turn.user for turn in dialogue.turns))
        if not any(normalized(text) in held_out for text in said):
            yield dialogue


def normalized(text: str) -> str:
    """The text without capitals, punctuation and doubled spaces, to compare questions by."""
    kept = "".join(c if c.isalnum() or c in "+-" else " " for c in text.lower())
    return " ".join(kept.split())


def _dialogue(rng: Random) -> Dialogue:
    mood: Mood = rng.choices(MOODS, MOOD_WEIGHTS)[0]
    turns: list[Turn] = []
    if rng.random() < 0.01:
        turns += no_list(rng)
    for skill in rng.choices(list(SKILLS), list(SKILLS.values()), k=rng.choice(TURNS)):
        turns += skill(rng)
    raw = rng.random() < RAW
    if raw:
        turns = turns[:1]
    told = tuple(Turn(_sloppy(rng, turn.user), mood.wrap(rng, turn.answer)) for turn in turns)
    return Dialogue(system_message(rng, mood), told, raw)


BEFORE = (
    "{Hey|Hi|Hello|Okay|So|Well|Now|Um|And}{,|} ",
    "{Please|Tell me|Now tell me|Next question|One question|A question}{:|,} ",
    "{I have a question|Another question|Here is my question|I want to know this}{.|:} ",
)
AFTER = (
    " {Please|Thanks|Thank you}.",
    " {Tell me|Answer me}{, please|}.",
    " I {want|need} to know.",
)


REQUESTS = (
    "Add Calculate Choose Count Describe Do Explain Give List Name Pick Repeat Say Start Subtract "
    "Take Tell Write"
).split()
ASKING = (
    ("{Can|Could|Would|Will} you {please |kindly |now |}", "?"),
    (
        "{I want you to|I would like you to|I'd like you to|You should|Now|Please|Let me see you} ",
        "",
    ),
)


def _sloppy(rng: Random, text: str) -> str:
    """What a user types: requests as questions, words around it, no capitals, no punctuation."""
    if text.split()[0] in REQUESTS and rng.random() < 0.35:
        before, end = rng.choice(ASKING)
        text = say(rng, before) + text[0].lower() + (text[1:].rstrip(".!?") + end)
    if len(text) > 12:
        if rng.random() < 0.12:
            text = say(rng, BEFORE) + text
        elif rng.random() < 0.05:
            text += say(rng, AFTER)
    if rng.random() < 0.15:
        text = text.lower()
    if rng.random() < 0.2:
        text = text.rstrip(".?!")
    return text
