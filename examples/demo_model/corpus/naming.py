"""Naming colors, animals and other things, and what they are like."""

from __future__ import annotations

from random import Random

from examples.demo_model.corpus.numbers import number
from examples.demo_model.corpus.turn import Turn
from examples.demo_model.grammar import say

KINDS = {
    ("color", "colors"): "red blue green yellow orange purple pink brown black white gray",
    ("colour", "colours"): "red blue green yellow orange purple pink brown black white grey",
    ("animal", "animals"): "dog cat horse cow lion tiger bear rabbit mouse elephant fox wolf sheep",
    ("bird", "birds"): "eagle owl robin duck swan crow sparrow penguin",
    ("fruit", "fruits"): "apple banana orange pear cherry grape lemon peach",
    ("vegetable", "vegetables"): "carrot potato onion tomato pea cabbage bean",
    ("flower", "flowers"): "rose tulip daisy lily sunflower violet",
    ("tree", "trees"): "oak birch pine maple willow beech",
    ("planet", "planets"): "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune",
    ("season", "seasons"): "spring summer autumn winter",
    ("pet", "pets"): "dog cat rabbit hamster parrot goldfish",
}
WEIGHTS = [6, 3, 9, 2, 3, 1, 1, 1, 2, 2, 1]

SEVERAL = (
    "{Name|List|Give me|Tell me} $n $plural{ please| for me|}.",
    "{Name|List|Give me|Tell me} $n $plural.",
    "{What|Which} are $n $plural{ you know| that you know|}?",
    "{Which|What} $plural do you know? {Name|Give me} $n.",
    "{Do you know|Can you think of} $n $plural?",
    "I need $n $plural.",
)
SOME = (
    "{Name|List|Give me|Tell me} {some|a few} $plural{ please| for me|}.",
    "{Name|List|Give me|Tell me} {some|a few} $plural.",
    "{What|Which} $plural do you know?",
    "{Do you know|Can you think of} {some|any} $plural?",
    "{What are|Tell me} {some|the names of some} $plural{ you know|}?",
)
ONE = (
    "{Name|Give me|Tell me|Say} {a|one|any} $single.",
    "{Name|Give me|Tell me|Pick|Choose} {a|one} $single.",
    "{What is|Tell me} your {favorite|favourite} $single?",
    "{Do you know|Can you think of} {a|one} $single?",
)
ONE_ANSWERS = ("$Thing is {a|one} $single.", "$Thing.", "One $single is $thing.")
FAVOURITE_ANSWERS = ("I like $thing best.", "My favorite $single is $thing.")


def naming(rng: Random) -> list[Turn]:
    """Some members of a kind of things: as many as the user asked for, if they said how many."""
    (single, plural), members = rng.choices(list(KINDS.items()), WEIGHTS)[0]
    things = members.split()
    form = rng.random()
    if form < 0.5:
        count = rng.randint(2, min(5, len(things)))
        user = say(rng, SEVERAL, n=number(count, rng.random() < 0.35), plural=plural)
        return [Turn(_capital(user), _sentence(_some(rng, things, count)))]
    if form < 0.75:
        user = say(rng, SOME, plural=plural)
        return [Turn(_capital(user), _sentence(_some(rng, things, rng.choice((3, 4)))))]
    user = say(rng, ONE, single=single).replace(" a a", " an a")
    thing = rng.choice(things)
    answers = FAVOURITE_ANSWERS if "your fav" in user else ONE_ANSWERS
    answer = say(rng, answers, single=single, thing=thing, Thing=_capital(thing))
    return [Turn(_capital(user), answer.replace(" a a", " an a"))]


def _some(rng: Random, things: list[str], count: int) -> list[str]:
    """Some of the things, from any of them on in their order.

    To choose each at random would be harder to learn: all but those named would be as likely.
    """
    start = rng.randrange(len(things))
    return [things[(start + step) % len(things)] for step in range(count)]


def _sentence(things: list[str]) -> str:
    return _capital(", ".join(things[:-1]) + " and " + things[-1] + ".")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


COLORED = {
    "the sky": "blue", "the sea": "blue", "grass": "green", "a leaf": "green", "snow": "white",
    "milk": "white", "a banana": "yellow", "the sun": "yellow", "a lemon": "yellow",
    "blood": "red", "a tomato": "red", "a strawberry": "red", "coal": "black",
    "the night": "black", "a carrot": "orange", "chocolate": "brown", "an elephant": "gray",
    "a frog": "green", "a cherry": "red", "a cloud": "white",
}  # fmt: skip
WHAT_COLOR = (
    "{What|Which} {color|colour} is $thing?",
    "{What is|Tell me|Do you know} the {color|colour} of $thing?",
    "{What|Which} {color|colour} does $thing have?",
)
SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink",
    "horse": "neigh", "lion": "roar", "mouse": "squeak", "owl": "hoot", "rooster":
    "cock-a-doodle-doo", "bee": "buzz", "frog": "ribbit", "snake": "hiss", "donkey": "hee-haw",
}  # fmt: skip
WHAT_SOUND = (
    "{What|Which} {sound|noise} does {a|the} $animal make?",
    "What does {a|the} $animal say?",
    "{How|What} does {a|the} $animal {sound|sound like}?",
    "{Make|Can you make} the {sound|noise} of a $animal.",
)
LEGS = {
    "dog": 4, "cat": 4, "cow": 4, "horse": 4, "sheep": 4, "bird": 2, "duck": 2, "ant": 6, "bee": 6,
    "spider": 8, "mouse": 4, "lion": 4, "owl": 2, "elephant": 4, "fox": 4,
}  # fmt: skip
HOW_MANY_LEGS = (
    "How many legs does {a|an|the} $animal have?",
    "How many legs has {a|an|the} $animal{ got|}?",
    "{Tell me|Say} how many legs a $animal has.",
)


def qualities(rng: Random) -> list[Turn]:
    """The color of a thing, the sound or the legs of an animal."""
    form = rng.random()
    if form < 0.5:
        thing = rng.choice(list(COLORED))
        color = COLORED[thing]
        return [Turn(say(rng, WHAT_COLOR, thing=thing), f"{_capital(thing)} is {color}.")]
    if form < 0.75:
        animal = rng.choice(list(SOUNDS))
        return [Turn(say(rng, WHAT_SOUND, animal=animal), f"A {animal} says {SOUNDS[animal]}!")]
    animal = rng.choice(list(LEGS))
    article = "An" if animal[0] in "aeo" else "A"
    user = say(rng, HOW_MANY_LEGS, animal=animal)
    return [Turn(user, f"{article} {animal} has {number(LEGS[animal], False)} legs.")]


ORDERS = {
    ("day", "days of the week"): (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "{What are|Name|List|Tell me|Give me|Say} the {seven |}{days of the week|weekdays}",
    ),
    ("month", "months of the year"): (
        "January February March April May June July August September October November December",
        "{What are|Name|List|Tell me|Give me|Say} the {twelve |}months{ of the year| of a year|}",
    ),
    ("season", "seasons"): (
        "spring summer autumn winter",
        "{What are|Name|List|Tell me|Give me|Say} the {four |}seasons{ of the year|}",
    ),
}
FOLLOWING = ("{What|Which} $unit comes {right |}after $thing?", "What comes after $thing?")


def calendar(rng: Random) -> list[Turn]:
    """Days, months and seasons, in their order."""
    (unit, _), (members, whole) = rng.choice(list(ORDERS.items()))
    things = members.split()
    if rng.random() < 0.5:
        user = say(rng, whole)
        return [Turn(user + ("?" if user.startswith("What") else "."), _sentence(things))]
    place = rng.randrange(len(things))
    user = say(rng, FOLLOWING, unit=unit, thing=things[place])
    following = _capital(things[(place + 1) % len(things)])
    return [Turn(user, f"{following} comes after {things[place]}.")]
