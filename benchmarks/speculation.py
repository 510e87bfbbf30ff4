"""What guesses from the context gain on text that repeats, and cost on text that does not.

The same answers are written with and without them, in turn, and compared.

    python -m benchmarks.speculation ~/SmolLM2-135M-Instruct.Q4_1.gguf --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlc_llm import ChatConfig
from mlc_llm.chat.loading import LoadedChat, open_chat
from mlc_llm.chat.turn import Turn
from mlc_llm.config import GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.runtime.request import Request

CODE = """def total(prices):
    result = 0
    for price in prices:
        if price < 0:
            raise ValueError("a price must not be negative")
        result = result + price
    return result


def mean(prices):
    if not prices:
        raise ValueError("there must be a price")
    return total(prices) / len(prices)
"""

PROMPTS = {
    "edit of a file": f"Write this file again, and nothing else:\n\n```python\n{CODE}```",
    "extract": "Repeat the second and the third sentence: The river rises in the hills. It flows "
    "past three old mills and a bridge of stone. In the spring its water is brown, and in the "
    "summer children swim below the bridge. Then it joins the sea.",
    "story": "Tell me a story about a lighthouse and a whale.",
    "list": "Name twenty animals that live in the sea, and say one thing about each.",
}


@dataclass(frozen=True)
class Speeds:
    """Tokens a second of one prompt's answers, without guesses and with them."""

    without: float
    guessed: float
    tokens: int

    @property
    def gain(self) -> float:
        """How many times as fast the guesses make it."""
        return self.guessed / self.without


def measure(chat: LoadedChat, rounds: int, temperature: float) -> Iterator[tuple[str, Speeds]]:
    """The speeds of each prompt.

    Raises:
        ValueError: an answer is another one with guesses.
    """
    for name, text in PROMPTS.items():
        request = _request(chat, text, temperature)
        times: dict[bool, list[float]] = {False: [], True: []}
        answers = set()
        for _ in range(rounds):
            for proposes in (False, True):
                seconds, ids = _answer(chat, replace(request, proposes=proposes))
                times[proposes].append(len(ids) / seconds)
                answers.add(ids)
        if len(answers) != 1:
            raise ValueError(f"the answers to {name!r} differ")
        without, guessed = statistics.median(times[False]), statistics.median(times[True])
        yield name, Speeds(without, guessed, len(answers.pop()))


def _request(chat: LoadedChat, text: str, temperature: float) -> Request:
    settings = chat.plan.settings
    conversation = Conversation(settings.template, chat.plan.tokenizer)
    generation = GenerationConfig(temperature=temperature, seed=1, max_gen_len=200)
    messages = (Message("user", text),)
    return Turn.plan(chat, settings, conversation, messages, generation).request(settings)


def _answer(chat: LoadedChat, request: Request) -> tuple[float, tuple[int, ...]]:
    """The seconds from the first token to the last one, and the tokens."""
    ids: list[int] = []
    begin = 0.0
    for delta in chat.stream(request):
        ids += delta.token_ids
        begin = begin or time.perf_counter()
    return time.perf_counter() - begin, tuple(ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = ChatConfig(num_threads=arguments.threads)
    print("| answer | tokens | without, tok/s | with guesses | gain |")
    print("|---|---|---|---|---|")
    with open_chat(arguments.model, "cpu", config) as chat:
        for temperature in (0.0, 0.7):
            for name, speeds in measure(chat, arguments.rounds, temperature):
                print(
                    f"| {name}, temperature {temperature} | {speeds.tokens} | "
                    f"{speeds.without:.1f} | {speeds.guessed:.1f} | {speeds.gain:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
