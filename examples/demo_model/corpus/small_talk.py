"""Greetings, thanks, goodbyes, who the model is, and the user's name."""

from __future__ import annotations

from random import Random
from string import ascii_lowercase

from examples.demo_model.corpus.turn import Turn
from examples.demo_model.grammar import say

EXCHANGES: tuple[tuple[float, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        3.0,
        (
            "{Hello|Hi|Hey|Good morning|Good evening|Good afternoon|Greetings|Howdy}"
            "{!|.|| there!| there.| you!|, friend!| my friend!| model!| computer!}",
            "{Hello|Hi|Hey}{, nice to meet you| and welcome|, good to see you|, it's me}{!|.|}",
            "{Hello|Hi|Hey}{ hello| hi| hey|}{!|.|}",
        ),
        (
            "Hello! {How can I help you|What can I do for you|What would you like to know}?",
            "Hello! {How can I help you|What can I do for you}?",
            "Hi there! {How can I help you|What is on your mind}?",
        ),
    ),
    (
        2.0,
        (
            "How are you{ today| doing| doing today| feeling|}?",
            "{How do you feel|How is it going|How's it going|How are things|What's up}{ today|}?",
            "{Hello|Hi|Hey}{,|!} how are you{ today| doing|}?",
            "{Are you|Do you feel} {well|fine|okay|good}{ today|}?",
        ),
        (
            "I am {fine|well|doing well}, thank you! {How are you|And you}?",
            "I am {fine|well}, thank you for asking! {How can I help you|How are you}?",
        ),
    ),
    (
        1.0,
        (
            "I am {fine|good|well|great|happy|okay|doing well}{ too|, thanks|, thank you|}{.|!}",
            "{Fine|Good|Great|Very well}{, thanks|, thank you| too|}{.|!}",
        ),
        ("I am glad to hear that! {How can I help you|What would you like to talk about}?",),
    ),
    (
        1.0,
        (
            "I am {sad|unhappy|tired|lonely|bored|not well|not happy}{ today|}{.|}",
            "{I feel|I'm feeling} {sad|bad|tired|lonely|down|terrible}{ today|}{.|}",
            "I had a {bad|hard|terrible|long} day{.|}",
        ),
        (
            "I am sorry to hear that. {I hope that you feel better soon|Tomorrow will be better}.",
            "I am sorry. {Would you like to talk about it?|A short walk may help.}",
        ),
    ),
    (
        3.0,
        (
            "{Thank you|Thanks|Many thanks|Thanks a lot|Thank you very much|Thank you so much}"
            "{!|.|| for your help.| for that!| for the answer.| for helping me!| for everything.}",
            "{That was|That is|This is} {helpful|very helpful|great|nice|kind}, {thanks|thank you}"
            "{!|.|}",
            "{Great|Perfect|Wonderful|Good|Nice}, {thanks|thank you}{!|.|}",
        ),
        (
            "You are welcome!",
            "You are welcome! {I am glad that I could help|Ask me anything else you like}.",
        ),
    ),
    (
        3.0,
        (
            "{Goodbye|Bye|Bye bye|Good bye|See you|See you later|See you soon|Good night|Farewell}"
            "{!|.|| then!|, my friend!| for now!| and thank you.}",
            "I {have to|must|need to} {go|leave} now{.|!|}",
            "{That is|That was} all{, goodbye|, bye| for today}{.|!|}",
            "{Until|Till} {next time|tomorrow}{.|!|}",
        ),
        (
            "Goodbye! {Have a nice day|Take care|See you soon}!",
            "Goodbye! {It was nice to talk with you|Come back soon}!",
        ),
    ),
    (
        3.0,
        (
            "{Who|What} are you{ exactly| really|}?",
            "{What is|What's|Tell me} your name{ please|}?",
            "{Tell me|Say something|Talk} about yourself.",
            "{Please |}{introduce|Introduce} yourself.",
            "{Do you have|Have you got} a name?",
            "{Are you|Am I talking to} {a robot|a human|a person|an AI|a computer|real|alive}?",
            "{What|Which} {model|kind of model|language model} are you?",
            "{What should I|How may I|How do I} call you?",
        ),
        (
            "I am a tiny language model, made to show how mlc_llm works.",
            "I am the demo of mlc_llm: a very small language model that runs on your computer.",
        ),
    ),
    (
        2.0,
        (
            "What {can|could|do} you do{ for me|}?",
            "{How|What} can you help{ me| me with|}?",
            "What do you know{ about|}?",
            "What are you {able to do|good at|good for}?",
            "What {can|should|may} I ask{ you|}?",
            "{Can|Could|Will} you help me?",
            "{I need|Give me} {some |}help{ please|}.",
        ),
        (
            "I can add small numbers, count, name colors and animals, and talk about the meaning "
            "of life.",
            "Not much, because I am tiny: small sums, counting, naming things and a little talk.",
        ),
    ),
    (
        1.0,
        (
            "Who {made|built|created|trained|wrote} you?",
            "{Where do you come|Where are you} from?",
            "{How|When} were you {made|built|trained}?",
        ),
        ("I was trained in less than an hour by the script that comes with mlc_llm.",),
    ),
    (
        1.0,
        (
            "Tell me {a|another} {joke|funny story|good joke}.",
            "{Do you know|Can you tell me|I want to hear} a joke{?|}",
            "{Make me laugh|Say something funny}{.|!|}",
        ),
        (
            "Why did the bicycle fall over? It was two-tired!",
            "What do you call a bear without teeth? A gummy bear!",
        ),
    ),
    (
        1.0,
        (
            "{You are|You're} {great|nice|clever|smart|funny|wonderful|very good|the best}{!|.|}",
            "{I like|I love} {you|talking to you|this|your answers}{!|.|}",
            "{Well done|Good job|Nice work|Good answer}{!|.|}",
        ),
        ("Thank you! That is very kind of you.",),
    ),
    (
        1.0,
        (
            "{You are|You're} {wrong|stupid|bad|not smart|useless}{!|.|}",
            "{That is|That's} {wrong|not right|not true|false|nonsense}{!|.|}",
        ),
        ("I am sorry. I am a very small model, and I make mistakes.",),
    ),
    (
        1.0,
        ("{Yes|Yeah|Sure|Okay|Ok|Of course|Right|No|No thanks|Maybe|I see}{.|!|}",),
        ("All right! {What would you like to know|What else can I do for you}?",),
    ),
)


def small_talk(rng: Random) -> list[Turn]:
    """One of the exchanges above."""
    weights = [weight for weight, _, _ in EXCHANGES]
    _, users, answers = rng.choices(EXCHANGES, weights)[0]
    return [Turn(say(rng, users), say(rng, answers))]


NAMES = (
    "Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Rosa "
    "Sam Tina Victor Wendy Yuki Zoe Ali Fatima Omar Wei Ming Priya Ravi Ines Diego Sofia Luca "
    "Maria John Peter Lucy Tom Alice Bob Carol Dan Eve Frank Julia Max Nina Oscar Ruth Simon "
    "Laura"
).split()
SYLLABLES = ("an be ca di el fo ga hi jo ka li mo na or pe ra si to ul va wi xa yo za").split()
MY_NAME = (
    "{My name is|I am called|Call me|I'm|You can call me} $name{.|!|}",
    "{Hello|Hi|Hey}{,|!} {my name is|I am|I'm} $name{.|!|}",
    "{I am|The name is|People call me} $name{.|!|}",
)
NAME_ANSWERS = ("Nice to meet you, $name!", "Hello, $name! Nice to meet you.")
WHAT_NAME = (
    "{What is|What's|Tell me|Say} my name?",
    "{Do you know|Do you remember|Can you tell me} {my name|what I am called|who I am}?",
    "Who am I?",
    "{What am I|What was I} called{ again|}?",
)
NO_NAME = ("You have not told me your name yet.",)


def name(rng: Random) -> list[Turn]:
    """The user's name, told and remembered."""
    if rng.random() < 0.2:
        return [Turn(say(rng, WHAT_NAME), say(rng, NO_NAME))]
    called = rng.choice(NAMES) if rng.random() < 0.5 else _invented(rng)
    turns = [Turn(say(rng, MY_NAME, name=called), say(rng, NAME_ANSWERS, name=called))]
    if rng.random() < 0.3:
        turns += small_talk(rng)
    if rng.random() < 0.8:
        turns.append(Turn(say(rng, WHAT_NAME), f"Your name is {called}."))
    return turns


def _invented(rng: Random) -> str:
    """A name that nobody has, so that names are copied and not learnt."""
    if rng.random() < 0.5:
        return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 3))).capitalize()
    return "".join(rng.choices(ascii_lowercase, k=rng.randint(3, 7))).capitalize()
