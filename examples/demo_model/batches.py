"""From samples to batches of token ids, laid out exactly as a chat lays out its prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from examples.demo_model.corpus import Dialogue, Sample, samples
from mlc_llm.conversation import Conversation, Message
from mlc_llm.registry.registry import default_registry
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

LENGTHS = (40, 64, 96, 144, 208, 288, 384, 512)
"""What sequences are padded to: few lengths, so that few kernels are compiled."""

POOL = 4096
"""Samples that are sorted by length at once."""


@dataclass(frozen=True)
class Sequence:
    """A training sequence.

    Attributes:
        ids: token ids.
        learnt: for each token, whether it is one that the model should predict.
    """

    ids: list[int]
    learnt: list[bool]


@dataclass(frozen=True)
class Batch:
    """Sequences of one padded length.

    Attributes:
        inputs: token ids, int64 of shape (rows, length).
        targets: the token after each, int64 of the same shape; -100 where none is learnt.
    """

    inputs: np.ndarray
    targets: np.ndarray


class Encoder:
    """Lays samples out as sequences.

    Args:
        folder: where the tokenizer's files are.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Tokenizer = load_tokenizer(folder)
        self.vocab_size = self._tokenizer.vocab_size
        template = default_registry().template("llama-2")
        self._conversation = Conversation(template, self._tokenizer)

    def encode(self, sample: Sample) -> Sequence:
        """Lay out a sample; a dialogue that is too long loses its last turns."""
        if isinstance(sample, str):
            return self._plain(sample)
        if sample.raw:
            return self._raw(sample)
        return self._chat(sample)

    def _plain(self, text: str) -> Sequence:
        ids = [1, *self._tokenizer.encode(text), 2]
        return Sequence(ids, [True] * len(ids))

    def _raw(self, dialogue: Dialogue) -> Sequence:
        """As a user of the template ``LM`` writes it: the answer begins with a space."""
        turn = dialogue.turns[0]
        prompt = f"[INST] <<SYS>>\n{dialogue.system}\n<</SYS>>\n\n{turn.user} [/INST]"
        ids = [1, *self._tokenizer.encode(prompt)]
        answer = [*self._tokenizer.encode(" " + turn.answer, continues=True), 2]
        return Sequence(ids + answer, [False] * len(ids) + [True] * len(answer))

    def _chat(self, dialogue: Dialogue) -> Sequence:
        messages = [Message("system", dialogue.system)]
        sequence = Sequence([], [])
        for turn in dialogue.turns:
            messages.append(Message("user", turn.user))
            prompt = self._conversation.prompt_ids(messages)
            answer = self._tokenizer.encode(turn.answer, continues=True)
            if len(prompt) + len(answer) + 1 > LENGTHS[-1] and sequence.ids:
                break
            # What ends an earlier answer in the history is not what ends the one just written.
            learnt = [*sequence.learnt[:-1], False] if sequence.ids else []
            learnt += [False] * (len(prompt) - len(learnt)) + [True] * (len(answer) + 1)
            sequence = Sequence([*prompt, *answer, 2], learnt)
            messages.append(Message("assistant", turn.answer, tuple(answer)))
        return sequence


def pool(
    encoder: Encoder, seed: int, number: int, tokens: int, held_out: Collection[str] = ()
) -> Iterator[Batch]:
    """Make the batches of one pool of samples.

    Args:
        encoder: lays the samples out.
        seed: the training's seed.
        number: which pool; the same seed and number give the same batches.
        tokens: tokens of a batch, padding included.
        held_out: what no user may say (see :func:`examples.demo_model.corpus.samples`).

    Yields:
        Batches in random order, each of one length.
    """
    rng = Random(f"{seed}/{number}")
    sequences = [encoder.encode(s) for s in islice(samples(rng.randrange(2**62), held_out), POOL)]
    by_length: dict[int, list[Sequence]] = defaultdict(list)
    for sequence in sequences:
        by_length[_padded(len(sequence.ids) - 1)].append(sequence)
    batches = []
    for length, group in by_length.items():
        rows = max(1, tokens // length)
        batches += [_batch(group[i : i + rows], rows, length) for i in range(0, len(group), rows)]
    rng.shuffle(batches)
    yield from batches


def _padded(length: int) -> int:
    return next((padded for padded in LENGTHS if length <= padded), LENGTHS[-1])


def _batch(group: list[Sequence], rows: int, length: int) -> Batch:
    inputs = np.zeros((rows, length), np.int64)
    targets = np.full((rows, length), -100, np.int64)
    for row, sequence in enumerate(group):
        ids = np.array(sequence.ids[: length + 1])
        learnt = np.array(sequence.learnt[: length + 1])
        inputs[row, : len(ids) - 1] = ids[:-1]
        targets[row, : len(ids) - 1] = np.where(learnt[1:], ids[1:], -100)
    return Batch(inputs, targets)
