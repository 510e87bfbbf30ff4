"""Plain text, for a model that is asked to go on with one: reflections, and small stories."""

from __future__ import annotations

from random import Random

from examples.demo_model.corpus.facts import FACTS
from examples.demo_model.corpus.small_talk import NAMES
from examples.demo_model.grammar import say

LIFE = (
    "Life is a quality that distinguishes {living things|plants and animals|all that lives} from "
    "{stones and water|things that never lived|a stone or a machine|things that are dead}.",
    "Life is {a gift|a journey|a river|a long road|a garden|a dance}, and "
    "{nobody knows where it ends|every day of it is new|we share it with others}.",
    "{All living things|Plants, animals and people} {grow, feed and change|grow and have young|"
    "need water and light}.",
    "A seed {grows into|becomes} a tree, {and a tree makes new seeds|if it has water and light}.",
    "{Living things|Plants and animals} take in food and turn it into {growth|strength|movement}.",
    "{What lives|Whatever lives} must one day {die|end}, but its children {go on|live on}.",
    "{Every|Each} living thing is made of {small cells|tiny parts} that work together.",
    "To live is to {learn|change|grow|hope}, {day by day|year after year|as long as we can}.",
    "{Even the smallest|The smallest} {flower|insect|seed} {shows|holds} the {wonder|beauty} of "
    "life.",
    "{No one|Nobody} has to live alone, because {kindness|love|friendship} {brings us together|"
    "can be found everywhere}.",
)
QUALITIES = (
    "{Kindness|Courage|Patience|Honesty|Hope|Curiosity} is a quality that "
    "{distinguishes|marks|shows} {good people|a good friend|a good teacher|wise people}.",
    "It {cannot be bought|costs nothing|grows with use|can be learnt}, and "
    "{everyone can have it|it makes the world better|it is worth more than gold}.",
    "{Those|People} who have it {help others|make friends easily|are never alone|sleep well}.",
    "{We learn it|It is learnt} "
    "{from our parents|from our friends|in hard times|when we are young}.",
)
NATURE = (
    "{The sun rises|Morning comes|The day begins} over the {hills|sea|forest|fields}.",
    "{Birds sing|A wind moves|Bees fly} in the {trees|garden|meadow|morning light}.",
    "{The river|A small stream} {runs|flows|winds} {to the sea|through the valley|past the mill}.",
    "In {spring|summer|autumn|winter} the {land|forest|garden} {is quiet|changes its colors|"
    "wakes up|is full of life}.",
    "{Rain falls|Snow falls|Clouds pass|Stars shine} over the {roofs|mountains|lake|fields}.",
    "{The fox|A deer|The owl|A rabbit} {walks|waits|watches|hides} {under the trees|in the grass|"
    "at the edge of the forest}.",
    "{In the evening|At night} the {sky turns red|moon rises|stars come out|world is still}.",
)

HEROES = "{little girl|little boy|young fox|small bear|old owl|brave mouse|white rabbit|happy dog}"
STORY = (
    "{Once upon a time|One day|Long ago}{,|} there was a " + HEROES + " {named|called} $name.",
    "$name {lived|had a home} {in a small house|near a forest|by the sea|on a green hill}.",
    "{One day|One morning|One evening}, $name {found|saw|lost|wanted} {a red ball|a golden key|"
    "a little boat|a blue flower|a big cake|an old book}.",
    "$name {felt|was} {happy|sad|curious|afraid|excited} and {ran home|called a friend|"
    "sat down|began to sing|looked around}.",
    "A {friend|bird|kind man|kind woman|wise owl} {came by|heard this} and said, "
    '"{Do not worry|I can help you|Let us go together|What a fine day}."',
    "{Together they|So they|Then they} {walked|played|looked|worked} {all day|until evening|"
    "in the sun|for a long time}.",
    "{In the end|At last|That night}, $name {was happy again|went home|learned to share|"
    "had a new friend}.",
    "{And they|They all} {lived happily ever after|were friends from then on|smiled}.",
)


def prose(rng: Random) -> str:
    """A paragraph of plain text."""
    kind = rng.random()
    if kind < 0.4:
        return _story(rng)
    if kind < 0.75:
        first = LIFE[0] if rng.random() < 0.5 else rng.choice(LIFE)
        return _paragraph(rng, first, LIFE)
    if kind < 0.85:
        return _paragraph(rng, QUALITIES[0], QUALITIES[1:])
    if kind < 0.95:
        return _paragraph(rng, rng.choice(NATURE), NATURE)
    return " ".join(rng.choice(FACTS[thing]) for thing in rng.sample(list(FACTS), 3))


def _paragraph(rng: Random, first: str, patterns: tuple[str, ...]) -> str:
    others = [pattern for pattern in patterns if pattern != first]
    chosen = [first, *rng.sample(others, rng.randint(2, min(5, len(others))))]
    return " ".join(say(rng, pattern) for pattern in chosen)


def _story(rng: Random) -> str:
    name = rng.choice(NAMES)
    return " ".join(say(rng, pattern, name=name) for pattern in STORY)
