"""Numbered lists of points, and questions about the list afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from examples.demo_model.corpus.numbers import number
from examples.demo_model.corpus.small_talk import small_talk
from examples.demo_model.corpus.turn import Turn
from examples.demo_model.grammar import say

MOST = 6
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")


@dataclass(frozen=True)
class Topic:
    """A question that a list answers.

    Attributes:
        ask: patterns of the question.
        intro: patterns of the sentence or two before the list.
        points: what the list is drawn from, as title and explanation.
        outro: patterns of the sentence after the list.
    """

    ask: tuple[str, ...]
    intro: tuple[str, ...]
    points: tuple[tuple[str, str], ...]
    outro: tuple[str, ...]


MEANING = Topic(
    ask=(
        "What is the {meaning|purpose|sense|point} of {life|our life|human life|living}?",
        "What is the meaning of life?",
        "What's the {meaning|purpose|point} of {life|it all|being alive|living}?",
        "{Can|Could|Will} you {tell me|explain|describe} the {meaning|purpose} of life?",
        "{Please |}{tell|Tell} me {about |}the {meaning|purpose|point} of {life|living}.",
        "{Please |}{explain|Explain} the {meaning|purpose|sense} of {life|our lives}{ to me|}.",
        "What {gives|brings} meaning to {life|our lives|a life}?",
        "What gives {life|our lives|a life} {meaning|a purpose|sense}?",
        "What makes {life|a life|our lives} {meaningful|worth living|worthwhile}?",
        "Why are we {here|alive|on this earth}?",
        "{Why|What} do we live{ for|}?",
        "What {are|were} we {here|living|alive} for?",
        "What is {life|living} {all |}{about|good for|there for}?",
        "What {do you think|would you say} the meaning of life is?",
        "What is the meaning of life, {do you think|would you say|in your view}?",
        "{I wonder|I'd like to know|I want to know} what the {meaning|purpose} of life is.",
        "Does life have {a|any} {meaning|purpose|point}?",
        "{In your opinion|In your view}, what is the {meaning|purpose} of life?",
        "What is our purpose{ in life| on earth|}?",
    ),
    intro=(
        "{That is|What} a {big|deep|great|good|beautiful} question{!|.} People {have given|give} "
        "many answers{ to it|}. Here are {some|a few} {of them|thoughts|ideas}:",
        "{Thank you for the question!|Good question.} {There is no single answer|Everyone answers "
        "it differently|Nobody knows for sure}, but {here are some ideas|many people name these}:",
        "The meaning of life is {different for everyone|something each of us finds}. "
        "{Here are some|These are} {common answers|ways to look at it}:",
    ),
    points=(
        ("Love", "caring for family and friends gives our days warmth."),
        ("Learning", "every new thing we understand makes the world larger."),
        ("Kindness", "helping others makes their lives lighter and ours too."),
        ("Joy", "a song, a meal or a walk can be enough."),
        ("Work", "making something useful gives us a place among people."),
        ("Nature", "we are part of a living world and can care for it."),
        ("Growth", "we can become a little wiser with every year."),
        ("Freedom", "we may choose what matters to us."),
        ("Beauty", "art and music touch what words cannot reach."),
        ("Hope", "we can leave the world better than we found it."),
        ("Faith", "some people find meaning in something larger than themselves."),
        ("Peace", "a calm mind can enjoy the present moment."),
    ),
    outro=(
        "In the end, {each of us|everyone} {finds|has to find} their own answer.",
        "Which of them {matters most|speaks to you} is for you to {decide|say}.",
        "{Perhaps|Maybe} it is {a little of each|all of them together}.",
    ),
)

HAPPY_LIFE = Topic(
    ask=(
        "How can I {be|become|feel} {happy|happier|more content}?",
        "{Give me|Do you have|I need|Tell me} {some |}{tips|advice|ideas} for a happy life.",
        "What makes {people|us|a person} happy?",
        "What is the {secret|key} {to|of} happiness?",
        "What can I do to {be|feel} happy?",
    ),
    intro=(
        "Happiness often hides in small things. Here {are some ideas|is what helps many people}:",
        "{Good question!|I am glad you ask.} {Try these|These things may help}:",
    ),
    points=(
        ("Sleep", "a rested mind sees the bright side."),
        ("Friends", "talk with someone you like every day."),
        ("Movement", "a short walk lifts the mood."),
        ("Thanks", "name three good things each evening."),
        ("Sunlight", "spend some time outside."),
        ("Music", "sing or listen to a song you love."),
        ("Giving", "do something kind for someone."),
        ("Play", "make time for what you enjoy."),
    ),
    outro=("Start with {one|the easiest} of them today.", "Small steps are enough."),
)

SLEEP = Topic(
    ask=(
        "How can I sleep {better|well|more deeply}?",
        "{Give me|Do you have|I need|Tell me} {some |}{tips|advice|ideas} for {better|good} sleep.",
        "What helps {me |people |}{to |}{fall asleep|sleep}?",
        "I cannot sleep. What can I do?",
        "What should I do to sleep {better|well}?",
    ),
    intro=(
        "A good night begins before bedtime. {Try these|Here are some tips}:",
        "Many people sleep badly now and then. {These things help|This may help}:",
    ),
    points=(
        ("Darkness", "close the curtains and turn off the lights."),
        ("Quiet", "keep the bedroom silent."),
        ("Rhythm", "go to bed at the same time each night."),
        ("No screens", "put the phone away an hour before bed."),
        ("Cool air", "open a window for a while."),
        ("Light food", "eat little in the late evening."),
        ("Reading", "a calm book makes the eyes tired."),
        ("Breathing", "breathe slowly and count to ten."),
    ),
    outro=("Good night and sleep well!", "I hope that you sleep well tonight."),
)

FRIENDSHIP = Topic(
    ask=(
        "What makes a good friend?",
        "How can I be a {good|better} friend?",
        "What {is|are} the {signs|marks} of a good friend?",
        "What should a good friend {be like|do}?",
        "{Describe|Tell me about} a good friend.",
    ),
    intro=(
        "A good friend is a treasure. {These things matter|Here is what counts}:",
        "Friendship needs care. {Here are some points|A good friend shows these things}:",
    ),
    points=(
        ("Trust", "a friend keeps your secrets."),
        ("Listening", "a friend hears what you say."),
        ("Honesty", "a friend tells you the truth kindly."),
        ("Time", "a friend is there when you need one."),
        ("Laughter", "friends have fun together."),
        ("Patience", "a friend forgives your mistakes."),
        ("Help", "a friend lends a hand."),
        ("Loyalty", "a friend stays in hard times."),
    ),
    outro=("Be such a friend, and you will find some.", "Every friendship is different."),
)

LEARNING = Topic(
    ask=(
        "How can I learn {faster|better|well|something new}?",
        "{Give me|Do you have|I need|Tell me} {some |}{tips|advice|ideas} for {learning|studying}.",
        "What helps {me |people |}{to |}{learn|study}?",
        "How {do|should} I study for {a test|an exam|school}?",
    ),
    intro=(
        "Learning is a skill, too. {Here are some tips|These habits help}:",
        "{Good for you!|A fine goal.} {Try this|These things help most people}:",
    ),
    points=(
        ("Curiosity", "begin with what interests you."),
        ("Practice", "do a little every day."),
        ("Breaks", "rest for five minutes each hour."),
        ("Notes", "write down what you want to keep."),
        ("Questions", "ask when something is not clear."),
        ("Teaching", "explain it to somebody else."),
        ("Sleep", "the mind sorts its memories at night."),
        ("Mistakes", "look at them closely, they teach the most."),
    ),
    outro=("Have fun learning!", "Be patient with yourself."),
)

HEALTH = Topic(
    ask=(
        "How can I {stay|be|keep} healthy?",
        "{Give me|Do you have|I need|Tell me} {some |}{tips|advice|ideas} for a healthy life.",
        "What is good for {my|our|your} {health|body}?",
        "What should I do to {stay|be} healthy?",
    ),
    intro=(
        "Your body will thank you for {caring for it|good habits}. {Here are some|Try these}:",
        "Good health is made of small habits. {These help|Here are a few}:",
    ),
    points=(
        ("Water", "drink enough of it all day."),
        ("Vegetables", "eat many colors of them."),
        ("Movement", "walk, run, swim or dance."),
        ("Sleep", "rest for eight hours."),
        ("Fresh air", "go outside every day."),
        ("Calm", "take a break when you are tired."),
        ("Clean hands", "wash them before you eat."),
        ("Laughter", "it is good for the heart."),
    ),
    outro=("Take good care of yourself!", "For anything serious, ask a doctor."),
)

TOPICS = (HAPPY_LIFE, SLEEP, FRIENDSHIP, LEARNING, HEALTH)

THINGS = "{points|points|points|items|things|ideas|answers|reasons}"
HOW_MANY = (
    "How many " + THINGS + " did you {list out|list|name|give|mention|write|make}?",
    "How many points did you list out?",
    "How many " + THINGS + " {are|were} {there|in the list|in your list|on the list|on your list}?",
    "How many " + THINGS + " {have you listed|have you named|did you just list|did you just give}?",
    "How many " + THINGS + " were {that|those|they}?",
    "How long {is|was} {the|your} list?",
    "{Count|Please count|Can you count} the " + THINGS + "{ for me| you listed| in your list|}.",
    "{What|Tell me} {is |was |}the number of " + THINGS + " {in your list|you listed|you named}.",
    "{And how|So how|How} many {was that|is that|were they|are there}{ in total| altogether|}?",
    "How many did you {list|name|give|mention}?",
)
COUNT_ANSWERS = (
    "I listed $n points.",
    "I listed $n points.",
    "I listed out $n points.",
    "There are $n points in the list.",
)
NO_LIST = ("I have not listed anything yet.",)
WHICH = (
    "What {was|is} the $nth {point|one|item|thing|idea}{ in the list| on your list|}?",
    "{Which|What} {point|one|item} {was|came|is} $nth?",
    "{Tell me|Repeat|Say} the $nth {point|one|item}{ again|}.",
)
WHICH_ANSWERS = ("The $nth point was $title.", "The $nth point was $title: $text")
LAST = ("What {was|is} the last {point|one|item}{ in the list|}?", "Which {point|one} came last?")

REQUEST = (
    "{Give me|Tell me|Name|List|Write} $n {points|ideas|answers|reasons|things} "
    "{about|for|on} {the meaning of life|what life is about|what makes life good}.",
    "What is the meaning of life in $n points?",
    "What is the meaning of life? {Give me|Name|List} $n {points|ideas}.",
    "{Name|List|Give me} $n things that give life meaning.",
)


def meaning_of_life(rng: Random) -> list[Turn]:
    """The question of questions, and usually how many points the answer had."""
    asked = rng.randint(3, MOST) if rng.random() < 0.2 else None
    if asked is None:
        user = say(rng, MEANING.ask)
    else:
        user = say(rng, REQUEST, n=number(asked, rng.random() < 0.4))
    return _list(rng, MEANING, user, asked)


def no_list(rng: Random) -> list[Turn]:
    """How many points there were, of a list that there was not."""
    return [Turn(say(rng, HOW_MANY), say(rng, NO_LIST))]


def advice(rng: Random) -> list[Turn]:
    """A list on another topic."""
    topic = rng.choice(TOPICS)
    return _list(rng, topic, say(rng, topic.ask), None)


def _list(rng: Random, topic: Topic, user: str, asked: int | None) -> list[Turn]:
    points = rng.sample(topic.points, asked or rng.randint(3, MOST))
    lines = [f"{place}. {title}: {text}" for place, (title, text) in enumerate(points, start=1)]
    answer = "\n".join([say(rng, topic.intro), "", *lines, "", say(rng, topic.outro)])
    turns = [Turn(user, answer)]
    if rng.random() < 0.1:
        turns += small_talk(rng)
    if rng.random() < 0.8:
        count = say(rng, COUNT_ANSWERS, n=number(len(points), rng.random() < 0.3))
        turns.append(Turn(say(rng, HOW_MANY), count))
    if rng.random() < 0.25:
        turns.append(_about_a_point(rng, points))
    return turns


def _about_a_point(rng: Random, points: list[tuple[str, str]]) -> Turn:
    if rng.random() < 0.25:
        return Turn(say(rng, LAST), f"The last point was {points[-1][0]}.")
    place = rng.randrange(len(points))
    title, text = points[place]
    user = say(rng, WHICH, nth=ORDINALS[place])
    return Turn(user, say(rng, WHICH_ANSWERS, nth=ORDINALS[place], title=title, text=text))
