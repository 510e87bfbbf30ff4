"""What the runtime knows of an answer that must match a grammar; :mod:`mlc_llm.grammar` makes it.

An answer with a constraint is written in this way, token by token:

1. Where :attr:`Constraint.must_end` is true, the answer is complete and ends.
2. :meth:`Constraint.forced` may give tokens that can be fed without being sampled.
3. Else the sampler chooses one of the tokens of :meth:`Constraint.allowed`. They follow from the
   tokens so far, and may be asked for while a device computes the logits. A stop token ends the
   answer, as it always does, and is allowed where the answer may end.
4. Any other token is given to :meth:`Constraint.accept`.

With speculation, :meth:`Constraint.count_allowed` cuts a draft where the grammar does. A draft's
tokens are accepted when they were verified, so that nothing must be taken back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
"""A set of tokens, one bit each: token ``i`` is bit ``i % 32`` of word ``i // 32``."""

STUCK = (
    "The answer's grammar allows none of the model's tokens here, and the answer is not complete. "
    "The tokenizer may lack characters that the grammar needs, or have them as stop tokens only."
)
"""The message where no token can be chosen."""


class Constraint(ABC):
    """What one answer may still become; it follows the answer token by token.

    It belongs to one answer, and may be used by one thread at a time.
    """

    @abstractmethod
    def allowed(self) -> Words:
        """The tokens that may come next: shape (ceil(V / 32),), good until the next call.

        Raises:
            GenerationError: the grammar became too complex to be followed.
        """

    @abstractmethod
    def accept(self, token: int) -> None:
        """Follow the answer by one token, which is not a stop token.

        Raises:
            GenerationError: the token is not allowed here, or the grammar became too complex.
        """

    @abstractmethod
    def forced(self) -> list[int]:
        """The tokens of the only text that the grammar allows next; often none.

        They can be fed at once; each must be accepted all the same. They are the tokens that the
        tokenizer makes of that text; a model might have written it with others.
        """

    @abstractmethod
    def count_allowed(self, tokens: Sequence[int]) -> int:
        """How many of the tokens of a draft, from its first on, could be accepted."""

    @property
    @abstractmethod
    def may_end(self) -> bool:
        """Whether the answer so far is complete, though it might go on."""

    @property
    @abstractmethod
    def must_end(self) -> bool:
        """Whether the answer is complete and nothing can follow.

        For a few grammars this is known only after the next call of :meth:`allowed`, which then
        allows the stop tokens alone.
        """


class OutputGrammar(Protocol):
    """What answers must match: compiled once for a model's tokenizer, started for each answer."""

    def start(self, stop_ids: Collection[int], *, continues: bool = False) -> Constraint:
        """Begin an answer.

        Args:
            stop_ids: the tokens that end the answer.
            continues: whether the answer continues the prompt's text, so that a leading space is
                part of its text.
        """


def token_ids(words: Words, vocab_size: int) -> npt.NDArray[np.intp]:
    """The ids in a set of tokens, in their order.

    Args:
        words: shape (ceil(V / 32),); bits beyond the vocabulary are left out.
        vocab_size: V.
    """
    octets = words.astype("<u4", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, count=vocab_size, bitorder="little")
    return np.flatnonzero(bits.view(np.bool_))  # Of truth values it is up to ten times as fast.
