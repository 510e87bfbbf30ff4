"""Response formats compiled for a model's vocabulary, and the answers that follow them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.grammar.matcher import failure, is_stuck, new_matcher
from mlc_llm.grammar.response_format import ResponseFormat
from mlc_llm.grammar.vocabulary import NONE, Vocabulary
from mlc_llm.runtime.constraint import STUCK, Constraint, Words
from mlc_llm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

KEPT = 32
"""Compiled response formats that are kept for the next request with the same one."""


class GrammarCompiler:
    """Compiles response formats for a model, and keeps the last ones.

    Nothing is computed before the first one is asked for. Any thread may use it.

    Args:
        tokenizer: the model's.
        vocab_size: the rows of the model's embedding table.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._vocabulary: Vocabulary | None = None
        self._kept: OrderedDict[ResponseFormat, CompiledGrammar] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, response_format: ResponseFormat) -> CompiledGrammar:
        """Compile a response format: about a millisecond for most schemas.

        Raises:
            ConfigError: it names a special token that the model lacks, or the model has no token
                for any text that it allows.
            TokenizerError: what the tokenizer's tokens stand for depends on those around them.
        """
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = Vocabulary(self._tokenizer, self._vocab_size)
            compiled = self._kept.get(response_format)
        if compiled is None:
            compiled = CompiledGrammar(response_format, self._vocabulary)
        with self._lock:
            self._kept[response_format] = compiled
            self._kept.move_to_end(response_format)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return compiled


class CompiledGrammar:
    """A response format compiled for a vocabulary; any thread may start an answer with it.

    Args:
        response_format: what answers must match.
        vocabulary: the model's.

    Raises:
        ConfigError: as :meth:`GrammarCompiler.compile`.
    """

    def __init__(self, response_format: ResponseFormat, vocabulary: Vocabulary) -> None:
        self._grammar, self._vocabulary = response_format.grammar, vocabulary
        self._matcher = new_matcher(vocabulary.trie, self._grammar)
        # The first set is the dearest one; what is found for it serves all answers.
        self._matcher.compute_bitmask()
        if self._matcher.is_error():
            stuck = "it has no token for any text that is allowed"
            raise ConfigError(
                "This model cannot follow the response_format: "
                f"{stuck if is_stuck(self._matcher) else failure(self._matcher)}.",
                code="response-format-invalid",
            )

    def start(self, stop_ids: Collection[int], *, continues: bool = False) -> GrammarConstraint:
        """Begin an answer; see :class:`mlc_llm.runtime.constraint.OutputGrammar`."""
        return GrammarConstraint(
            self._matcher.deep_copy(), self._renew, self._vocabulary, stop_ids, continues
        )

    def _renew(self) -> LLMatcher:
        """Begin with nothing computed, for this answer and for those to come."""
        self._matcher = new_matcher(self._vocabulary.trie, self._grammar)
        return self._matcher.deep_copy()


class GrammarConstraint(Constraint):
    """One answer that follows a grammar.

    Copies of a matcher share the states of their lexer, and there is a limit to these. So that no
    answer fails for what others have used, one that meets it begins again, alone.

    Args:
        matcher: at the beginning of the grammar; it is the constraint's own.
        renew: gives another one that shares nothing with it.
        vocabulary: the model's.
        stop_ids: the tokens that end the answer.
        continues: whether a space at the beginning of the answer is part of its text.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        renew: Callable[[], LLMatcher],
        vocabulary: Vocabulary,
        stop_ids: Collection[int],
        continues: bool,
    ) -> None:
        self._matcher, self._renew = matcher, renew
        self._vocabulary, self._continues = vocabulary, continues
        self._stop_ids = frozenset(token for token in stop_ids if token < vocabulary.size)
        self._words = np.zeros(vocabulary.words, np.uint32)
        self._accepted: list[int] = []
        self._only_end = False

    def allowed(self) -> Words:
        words, vocabulary = self._words, self._vocabulary
        self._compute(words)
        _set(words, vocabulary.size, False)
        self._only_end = not words.any()
        words = vocabulary.spread(words, first=self._at_start)
        ends = self.may_end
        for token in self._stop_ids:
            if ends or token in vocabulary.plain:
                _set(words, token, ends)
        return words[: -(-vocabulary.size // 32)]

    def accept(self, token: int) -> None:
        known = self._known(token, first=self._at_start)
        if known == NONE or not self._matcher.validate_tokens([known]):
            raise GenerationError(f"The answer's grammar does not allow the token {token} here.")
        if not self._matcher.consume_token(known):
            self._begin_again()
            self._matcher.consume_token(known)
            self._check()
        self._accepted.append(known)
        self._only_end = False

    def forced(self) -> list[int]:
        tokens = self._matcher.compute_ff_tokens()
        return tokens[: self.count_allowed(tokens)]

    def count_allowed(self, tokens: Sequence[int]) -> int:
        known: list[int] = []
        for token in tokens:
            stand_in = self._known(token, first=self._at_start and not known)
            if stand_in == NONE:
                break
            known.append(stand_in)
        return self._matcher.validate_tokens(known)

    @property
    def may_end(self) -> bool:
        return self._matcher.is_accepting()

    @property
    def must_end(self) -> bool:
        return self.may_end and (self._only_end or self._matcher.is_stopped())

    @property
    def _at_start(self) -> bool:
        """Whether a leading space of the next token is left out of the text."""
        return not self._accepted and not self._continues

    def _known(self, token: int, *, first: bool) -> int:
        """The token that llguidance has for a token of an answer, or :data:`NONE`."""
        if token in self._stop_ids or not 0 <= token < self._vocabulary.size:
            return NONE
        return self._vocabulary.stand_in(token, first=first)

    def _compute(self, words: Words) -> None:
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        if self._matcher.is_error():
            self._begin_again()
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
            self._check()

    def _begin_again(self) -> None:
        self._matcher = self._renew()
        self._matcher.consume_tokens(self._accepted)
        self._check()

    def _check(self) -> None:
        if is_stuck(self._matcher):
            raise GenerationError(STUCK, code="grammar-stuck")
        if self._matcher.is_error():
            raise GenerationError(
                "The answer's grammar became too complex to be followed: "
                f"{failure(self._matcher)}. Repeat less with large bounds, or have fewer "
                "alternatives that begin alike.",
                code="grammar-failed",
            )


def _set(words: Words, token: int, allowed: bool) -> None:
    """Add a token to a set, or take it out."""
    bit = np.uint32(1 << token % 32)
    if allowed:
        words[token // 32] |= bit
    else:
        words[token // 32] &= ~bit
