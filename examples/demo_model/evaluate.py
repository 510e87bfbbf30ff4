"""The evaluation: the model is asked as its users will ask it, through ``ChatModule``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from examples.demo_model.held_out import PARAPHRASES, PROMISES, Case
from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig

GREEDY = GenerationConfig(temperature=0, max_gen_len=200)
SAMPLED = tuple(
    GenerationConfig(temperature=0.7, top_p=0.95, seed=seed, max_gen_len=200) for seed in range(3)
)


@dataclass(frozen=True)
class Failure:
    """A chat that went wrong.

    Attributes:
        case: what was asked.
        answers: what was answered.
    """

    case: Case
    answers: list[str]


@dataclass(frozen=True)
class Score:
    """How many chats of one kind went right.

    Attributes:
        right: those that did.
        total: all of them.
        failures: the others.
    """

    right: int
    total: int
    failures: tuple[Failure, ...]


def evaluate(
    chat: ChatModule, cases: Iterable[Case], configs: Iterable[GenerationConfig]
) -> dict[str, Score]:
    """Ask every case under every setting.

    Args:
        chat: the model; its conversation is lost.
        cases: what to ask.
        configs: how to generate the answers.

    Returns:
        For each skill, its score.
    """
    right: dict[str, int] = defaultdict(int)
    failures: dict[str, list[Failure]] = defaultdict(list)
    totals: dict[str, int] = defaultdict(int)
    settings = tuple(configs)
    for case in cases:
        for config in settings:
            answers = _ask(chat, case, config)
            totals[case.skill] += 1
            if case.right(answers):
                right[case.skill] += 1
            else:
                failures[case.skill].append(Failure(case, answers))
    return {
        skill: Score(right[skill], total, tuple(failures[skill])) for skill, total in totals.items()
    }


def total(scores: dict[str, Score]) -> Score:
    """All skills together."""
    return Score(
        sum(score.right for score in scores.values()),
        sum(score.total for score in scores.values()),
        tuple(failure for score in scores.values() for failure in score.failures),
    )


def report(folder: Path, *, show_failures: bool = False) -> float:
    """Evaluate a model folder and print the figures.

    Args:
        folder: the model.
        show_failures: whether to print the chats that went wrong.

    Returns:
        The share of held-out paraphrases that were answered well, greedily and sampled together.
    """
    with ChatModule(str(folder)) as chat:
        print("promises, greedy        ", _line(promises := evaluate(chat, PROMISES, [GREEDY])))
        print("promises, temperature 0.7", _line(sampled := evaluate(chat, PROMISES, SAMPLED)))
        scores = evaluate(chat, PARAPHRASES, [GREEDY, *SAMPLED])
    for skill, score in scores.items():
        print(f"  {skill:<20} {score.right:>4} of {score.total}")
    print("held-out paraphrases     ", _line(scores))
    if show_failures:
        for scored in (promises, sampled, scores):
            for failure in total(scored).failures:
                print("---", failure.case.skill, "|", failure.case.system)
                for said, answer in zip(failure.case.says, failure.answers, strict=True):
                    print(f"> {said}\n{answer}")
    everything = total(scores)
    return everything.right / everything.total


def _line(scores: dict[str, Score]) -> str:
    score = total(scores)
    return f"{score.right} of {score.total} ({score.right / score.total:.0%})"


def _ask(chat: ChatModule, case: Case, config: GenerationConfig) -> list[str]:
    conversation = ConvConfig(system_message=case.system) if case.template != "LM" else ConvConfig()
    chat.reset_chat(ChatConfig(conv_template=case.template, conv_config=conversation))
    return [str(chat.generate(text, config)) for text in case.says]
