"""Texts on which a trained model is measured, as token ids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.probed_model import Logits, ProbedModel
from examples.demo_model.batches import Encoder
from examples.demo_model.corpus import samples
from examples.demo_model.held_out import excluded

START, END = 1, 2
"""The ids that begin and end a text in the models measured here, as in Llama's own tokenizer."""

PROMPT_SHARE = 4
"""The prompt is the first quarter of a story."""

DEMO_SEED = 20_000_003
"""Of dialogues that the demo's training did not draw."""


@dataclass(frozen=True)
class Passage:
    """A prompt and what follows it; only the tokens that follow are predicted and counted."""

    prompt: tuple[int, ...]
    rest: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens."""
        return self.prompt + self.rest


def stories(model: ProbedModel, count: int, length: int, seed: int = 0) -> list[Passage]:
    """Texts that a story model writes itself, at temperature 1; a story that ends starts another.

    Args:
        model: the writer.
        count: texts to write.
        length: tokens of each.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    prompt = length // PROMPT_SHARE
    texts = (tuple(islice(_written(model, random), length)) for _ in range(count))
    return [Passage(ids[:prompt], ids[prompt:]) for ids in texts]


def _written(model: ProbedModel, random: np.random.Generator) -> Iterator[int]:
    model.reset()
    token = START
    while True:
        yield token
        logits = model.decode(token)
        token = START if token == END else _draw(logits, random)


def _draw(logits: Logits, random: np.random.Generator) -> int:
    """A token drawn at temperature 1 (Gumbel's way)."""
    return int((logits - np.log(random.exponential(size=logits.shape))).argmax())


def dialogues(folder: Path, count: int, length: int) -> list[Passage]:
    """Chats of the demo's corpus, drawn with another seed than its training used.

    Args:
        folder: the demo's model folder.
        count: chats to draw.
        length: most tokens of one.
    """
    encoder = Encoder(folder)
    passages = []
    for sample in samples(DEMO_SEED, excluded()):
        sequence = encoder.encode(sample)
        # The prompt ends where the first answer begins; plain text has its first token as prompt.
        start = max(1, sequence.learnt.index(True))
        if len(sequence.ids) <= length:
            passages.append(Passage(tuple(sequence.ids[:start]), tuple(sequence.ids[start:])))
        if len(passages) == count:
            return passages
    raise AssertionError("the corpus has no end")
