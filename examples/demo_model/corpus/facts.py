"""What things are, in a sentence or two; and what the model does not know."""

from __future__ import annotations

from random import Random

from examples.demo_model.corpus.turn import Turn
from examples.demo_model.grammar import say

ASK = (
    "{What is|What's} $thing?",
    "{What is|What's} $thing{ exactly| really|}?",
    "{Please |}{explain|describe|Explain|Describe} $thing{ to me|}.",
    "{Tell me|Tell me something|Say something} about $thing.",
    "{Can|Could} you {explain|describe|tell me about} $thing?",
    "{What do you know|What can you tell me} about $thing?",
    "{I want|I would like} to know {about|what is} $thing.",
    "What {does|do} $thing mean?",
    "{Do you know|Can you say|I wonder} what $thing is{?|}",
    "{What|How} would you {call|describe} $thing?",
    "What do you {understand by|think of at the word} $thing?",
    "What {should I know|is there to know} about $thing?",
    "What does the word $thing stand for?",
    "Who or what is $thing?",
)

FACTS: dict[str, tuple[str, ...]] = {
    "mother nature": (
        "Mother nature is a name for the natural world. It speaks of nature as of a mother who "
        "gives life to plants, animals and people.",
        "Mother nature means the living world around us: the forests, the rivers, the weather and "
        "all that lives. People call her a mother because she feeds us all.",
        "Mother nature is nature seen as a caring mother. She brings the rain and the sun, and "
        "everything that grows.",
    ),
    "nature": (
        "Nature is everything that was not made by people: plants, animals, mountains, rivers and "
        "the sky.",
    ),
    "life": (
        "Life is what plants, animals and people have in common: they grow, they change and they "
        "have young.",
        "Life is a quality that distinguishes living things from stones and water. Living things "
        "grow, feed and have young.",
    ),
    "the sun": ("The sun is a star. It gives our earth light and warmth.",),
    "the moon": ("The moon goes around the earth. It shines because the sun lights it.",),
    "the earth": ("The earth is the planet we live on. It goes around the sun once a year.",),
    "a star": ("A star is a huge ball of hot gas that shines in the sky.",),
    "the sea": ("The sea is the salt water that covers most of the earth.",),
    "water": ("Water is what rivers, rain and seas are made of. Everything that lives needs it.",),
    "rain": ("Rain is water that falls from the clouds in drops.",),
    "snow": ("Snow is frozen water that falls in soft white flakes.",),
    "wind": ("Wind is air that moves.",),
    "fire": ("Fire is what we see when something burns. It gives light and heat.",),
    "love": ("Love is a deep and warm feeling for someone or something.",),
    "friendship": ("Friendship is a bond between people who like and trust each other.",),
    "happiness": ("Happiness is the warm feeling that all is well.",),
    "time": ("Time is what clocks measure. It passes from yesterday to tomorrow.",),
    "music": ("Music is sound that people shape into songs and melodies.",),
    "art": ("Art is what people make to show beauty, thoughts and feelings.",),
    "a book": ("A book is a bundle of pages with words or pictures to read.",),
    "a computer": ("A computer is a machine that follows instructions very quickly.",),
    "a language model": (
        "A language model is a program that has learnt to write text one word after the other.",
    ),
    "mlc_llm": ("mlc_llm is a Python package that runs language models on your own computer.",),
    "Python": ("Python is a programming language that is easy to read.",),
    "a tree": ("A tree is a tall plant with a trunk, branches and leaves.",),
    "a forest": ("A forest is a large place full of trees.",),
    "a river": ("A river is water that flows through the land to the sea.",),
    "a mountain": ("A mountain is a very high piece of land.",),
    "a dog": ("A dog is an animal that lives with people. It barks and wags its tail.",),
    "a cat": ("A cat is a small animal with soft fur. It purrs when it is happy.",),
    "bread": ("Bread is food that is baked from flour and water.",),
    "sleep": ("Sleep is the rest of the body and the mind at night.",),
    "school": ("School is a place where people learn.",),
}
HEAVY = ("mother nature", "life")


def facts(rng: Random) -> list[Turn]:
    """What something is."""
    thing = rng.choice(HEAVY) if rng.random() < 0.25 else rng.choice(list(FACTS))
    user = say(rng, ASK, thing=thing)
    return [Turn(user[0].upper() + user[1:], rng.choice(FACTS[thing]))]


UNKNOWN = (
    "Who {won|will win|plays in} the {world cup|election|match|race|game}{ yesterday| last year|}?",
    "{Write|Can you write|Please write} {me |}{a program|some code|an essay|a letter|an email}"
    "{ in Python| in C| about history| to my boss| about cars|}.",
    "{What is|What's} the {capital|population|history|president|king} of {France|Spain|China|"
    "Brazil|Japan|Egypt|Canada|India|Germany|Kenya}?",
    "{Translate|Please translate} {this|that|hello|the text} {to|into} {French|German|Chinese}.",
    "{How|Where} {do|can} I {install|repair|buy|sell|build|cook|bake} a {car|house|phone|cake|"
    "bicycle|computer|boat|table}?",
    "What is the {weather|time|date|temperature|news}{ today| now| tomorrow| in London|}?",
    "{What|Which} {movie|film|phone|car|stock|bank} should I {watch|buy|choose|take}?",
    "When {was|did} {the war|the king|Rome|the train|the bridge} {begin|end|built|born|fall}?",
    "{Explain|Tell me about} {quantum physics|the economy|calculus|the law|chemistry|football|"
    "medicine|politics|philosophy|algebra|rockets|biology}.",
    "{What is|How much is} the {price|cost|square root|weight|size} of {gold|a house|oil|a ticket|"
    "two hundred|a truck}?",
    "{Solve|Prove|Calculate} {this equation|the theorem|the integral|x squared|my taxes}.",
    "Who {is|was} {Napoleon|Einstein|the president|Shakespeare|the mayor|my teacher|Mozart}?",
    "{Why|How} {is|does|did} {inflation|gravity|the engine|the market|a plane} {work|rise|happen}?",
)
UNKNOWN_ANSWERS = (
    "I am only a tiny demo, and I do not know that.",
    "I do not know that, because I am a very small model. "
    "{A larger model can help you|Please ask a larger model}.",
    "That is too hard for me: I am only a tiny demo.",
)


def unknown(rng: Random) -> list[Turn]:
    """A question that is beyond the model."""
    return [Turn(say(rng, UNKNOWN), say(rng, UNKNOWN_ANSWERS))]
