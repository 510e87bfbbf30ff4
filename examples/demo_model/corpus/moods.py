"""System messages, and how they change the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from examples.demo_model.grammar import say

DEFAULT = "You are a helpful, respectful and honest assistant."

NEUTRAL = (
    DEFAULT,
    "You are a {helpful|friendly|polite|kind|good|careful|smart} assistant.",
    "You are {an assistant|a chatbot|an AI assistant|a bot}"
    "{ that answers questions| for everyone|}.",
    "{Answer|Please answer} {the question|the questions|the user|briefly|clearly|in English}.",
    "{Help|Please help} the user.",
    "You are a {helpful|friendly|polite} and {honest|careful|kind|brief} assistant"
    "{ for children|}.",
)

JOY = "{happiness|joy|cheerfulness|delight|cheer|good mood|excitement|happy feeling}"
GLAD = "{happy|joyful|cheerful|glad|delighted|excited|merry|overjoyed}"
GLADLY = "{happily|joyfully|cheerfully|gladly|merrily|with joy|with delight|in a happy voice}"
GLADDEST = "{happiest|merriest|most joyful|most cheerful}"
GRIEF = "{sadness|sorrow|grief|gloom|unhappiness|misery|despair|melancholy}"
SAD = "{sad|unhappy|sorrowful|gloomy|miserable|tearful|heartbroken|depressed}"
SADLY = "{sadly|sorrowfully|gloomily|unhappily|miserably|with tears|with sorrow|in a sad voice}"
SADDEST = "{saddest|unhappiest|gloomiest|most sorrowful}"


def _asking_for(feeling: str, adjective: str, most: str, adverb: str) -> tuple[str, ...]:
    """Patterns of system messages that ask for a mood."""
    when = "{ when talking to me| when you talk to me| in your answers| when you answer| to me|}"
    return (
        f"{{Please |}}{{show|Show|express|Express}} as much {feeling} as you can{when}.",
        f"Please show as much {feeling} as you can when talking to me.",
        f"{{Please |}}{{be|Be|sound|Sound}} {{very |as |really |extremely |}}{adjective}{when}.",
        f"{{Please |}}{{be|sound|act}} as {adjective} as {{you can|possible}}{when}.",
        f"{{Please |}}{{answer|Answer|reply|Reply|speak|Speak|talk|Talk}} {adverb}{{ to me|}}.",
        f"{{Always answer|Always reply|Answer everything|Say everything}} {adverb}.",
        f"You are {{a|a very}} {adjective} {{assistant|chatbot|person|model|friend}}.",
        f"You are {{very |so |always |}}{adjective}{{ today| all the time|}}.",
        f"{{Be|Act like|Play}} the {most} {{person|assistant|one}} {{in the world|alive|ever}}.",
        f"Your answers {{are|should be|must be}} full of {feeling}.",
        f"{{Show|Let me see|Let me feel}} your {feeling}.",
        f"I want {{you to be {adjective}|to hear your {feeling}|a lot of {feeling}}}.",
    )


HAPPY_MESSAGES = _asking_for(JOY, GLAD, GLADDEST, GLADLY)
SAD_MESSAGES = _asking_for(GRIEF, SAD, SADDEST, SADLY)

HAPPY_OPENINGS = (
    "{Oh, what joy!|Hooray!|How wonderful!|Oh, I am so happy!|Yay!} "
    "{*smiles*|*laughs*|*claps hands*|*dances*|*beams*}",
    "{*smiles*|*laughs*|*jumps for joy*|*beams*} {What a lovely question!|I am so happy you ask!}",
)
HAPPY_CLOSINGS = (
    "{*giggles*|*dances*|*cheers*} {Isn't that wonderful?|What a happy day!|I love it!}",
    "{I am so happy!|Life is beautiful!|What fun!}",
    "",
)
SAD_OPENINGS = (
    "{Oh, how sad...|Alas...|Oh dear...|Oh, woe is me...} "
    "{*sighs*|*sobs*|*cries*|*wipes a tear*|*sniffs*}",
    "{*sighs*|*sobs*|*cries*|*sniffs*} {It breaks my heart, but I will tell you...|I am so sad...}",
)
SAD_CLOSINGS = (
    "{*sobs*|*weeps*|*cries*} {Everything is so sad.|What a sad day.|My heart is heavy.}",
    "{I feel so sad.|Nothing can cheer me up.|How sad it all is.}",
    "",
)


@dataclass(frozen=True)
class Mood:
    """How the assistant is to feel.

    Attributes:
        name: ``neutral``, ``happy`` or ``sad``.
        messages: patterns of the system messages that ask for it.
        wrap: puts the feeling around an answer.
    """

    name: str
    messages: tuple[str, ...]
    wrap: Callable[[Random, str], str]


def _around(openings: tuple[str, ...], closings: tuple[str, ...]) -> Callable[[Random, str], str]:
    def wrap(rng: Random, answer: str) -> str:
        # What follows a list would be taken for one of its points.
        closing = "" if "\n" in answer else say(rng, closings)
        return " ".join(part for part in (say(rng, openings), answer, closing) if part)

    return wrap


MOODS = (
    Mood("neutral", NEUTRAL, lambda rng, answer: answer),
    Mood("happy", HAPPY_MESSAGES, _around(HAPPY_OPENINGS, HAPPY_CLOSINGS)),
    Mood("sad", SAD_MESSAGES, _around(SAD_OPENINGS, SAD_CLOSINGS)),
)
MOOD_WEIGHTS = (0.7, 0.15, 0.15)


def system_message(rng: Random, mood: Mood) -> str:
    """A system message that asks for the mood; mostly the template's own for none."""
    if mood.name == "neutral" and rng.random() < 0.6:
        return DEFAULT
    message = say(rng, mood.messages)
    return message[0].upper() + message[1:]
