"""An answer that is being written: what belongs to it alone, from its request to its last step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.answer import Delta, FinishReason, Limit
from mlc_llm.runtime.logprobs import LogprobRecorder
from mlc_llm.runtime.outbox import Sink
from mlc_llm.runtime.proposer import Proposer
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sampler import Sampler
from mlc_llm.runtime.sequence import DECODED, PREFILLED, CachedSequence, Run, prompt_phases
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.tokenizer import Tokenizer
from mlc_llm.tokenizer.stop import StopText

if TYPE_CHECKING:
    from mlc_llm.runtime.context_window import ContextWindow

Floats = npt.NDArray[np.float32]


class Generation:
    """One answer.

    Its tokens are those of the prompt and, after them, those that were generated. The KV cache may
    hold any number of the first ones: what it lacks is read, and the last one is always computed,
    for the logits after it.

    Args:
        request: what is asked for.
        tokenizer: of the model.
        sink: where the steps go.
        metrics: the tokens and seconds of the answer are added there.

    Attributes:
        ids: the tokens.
        phases: the phase in which each is computed.
        sequence: what the KV cache holds of them; None while the answer waits.
        cancelled: whether the answer is not wanted any more; any thread may set it.
        finished: whether the last step was given.
    """

    def __init__(
        self, request: Request, tokenizer: Tokenizer, sink: Sink, metrics: Metrics
    ) -> None:
        self.request, self.sink, self.metrics = request, sink, metrics
        self.ids = [*request.prompt.ids]
        self.phases = bytearray()
        self.sequence: CachedSequence | None = None
        self.cancelled = self.finished = False
        self._sampler = Sampler(request.sampling, request.seed, request.prompt.ids)
        self._detokenizer = tokenizer.stream(continues=request.continues)
        self._stop = StopText(request.ending.stop_strings)
        self._recorder = _recorder(request, tokenizer)
        self._constraint = (
            request.grammar.start(request.ending.stop_ids, continues=request.continues)
            if request.grammar is not None
            else None
        )
        # Tokens that the grammar leaves no choice of.
        self._forced = [] if self._constraint is None else self._constraint.forced()
        self._proposer = Proposer() if request.proposes else None
        self._drafts: Sequence[int] = ()
        self._window, self._decoded = 0, DECODED
        self._begun: float | None = None
        self._read = 0  # How many tokens of the prompt were found or read at some time.
        self._unreported = 0  # How many that were read no step has told of.

    def begin(self, window: ContextWindow, deterministic: bool) -> None:
        """Prepare for a model.

        Args:
            window: its sizes.
            deterministic: whether it computes prompts as it computes answers.
        """
        self._window = window.size
        self._decoded = PREFILLED if deterministic else DECODED
        prompt = self.request.prompt
        self.phases = (
            bytearray(len(prompt.ids))
            if deterministic
            else prompt_phases(len(prompt.ids), prompt.generated)
        )

    def start(self, sequence: CachedSequence) -> None:
        """Take up the answer, with what the cache holds already; also when it was put off."""
        self.sequence = sequence
        self._read = max(self._read, len(sequence))
        if self._begun is None:
            self._begun = time.perf_counter()

    @property
    def held(self) -> CachedSequence:
        """:attr:`sequence`, which is there while the answer does not wait."""
        assert self.sequence is not None
        return self.sequence

    @property
    def generated(self) -> int:
        """How many tokens were generated."""
        return len(self.ids) - len(self.request.prompt.ids)

    @property
    def unread(self) -> int:
        """How many tokens must be read before the last one."""
        return len(self.ids) - 1 - len(self.held)

    def next_part(self, most: int) -> tuple[int, Sequence[int]]:
        """Tokens to read, all of one phase, and that phase.

        Args:
            most: of how many tokens at most.
        """
        begin, end = len(self.held), min(len(self.ids) - 1, len(self.held) + most)
        phase = self.phases[begin]
        other = self.phases.find(PREFILLED if phase == DECODED else DECODED, begin, end)
        return phase, self.ids[begin : other if other >= 0 else end]

    def was_read(self, tokens: int, seconds: float) -> None:
        """Count tokens that were read in that time."""
        self.metrics.prefill.add(tokens, seconds)
        # What was read before, and dropped for others, is not told of again.
        new = len(self.held) - self._read
        if self.generated or new <= 0:
            return
        if self._unreported:
            self.sink.put(Delta(prefilled=self._unreported))
        self._read, self._unreported = len(self.held), new

    def next_run(self, most: int) -> Run:
        """What the next decode computes: the last token, and those that must or might follow.

        Args:
            most: of how many tokens at most.
        """
        room = max(0, min(most - 1, self._window - len(self.ids)))
        self._drafts = self._forced[:room] or self._guess(room)
        return Run(self.held, (self.ids[-1], *self._drafts))

    def advance(self, logits: Floats) -> int:
        """Write a token, and those of the drafts that would have been written one by one.

        Args:
            logits: (tokens, vocab_size), after each token of the run.

        Returns:
            How many tokens were written.

        Raises:
            GenerationError: they are not finite.
        """
        count, drafts = 0, self._drafts
        guessed = bool(drafts) and not self._forced
        known = len(self.held) - len(drafts)
        for row in logits:
            self._write(row)
            count += 1
            if self.finished or count > len(drafts) or self.ids[-1] != drafts[count - 1]:
                break
        if drafts:
            self.held.truncate(known + count - 1)
        if guessed and self._proposer is not None:
            self._proposer.learn(len(drafts), count - 1)
        return count

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.finished = True
        self.sink.end(error)

    def _write(self, logits: Floats) -> None:
        """Choose a token, and give what it means."""
        token = self._choose(logits)
        if not self.generated:
            self._first()
        if token in self.request.ending.stop_ids:
            self._finish("stop")
            return
        recorded = () if self._recorder is None else (self._recorder.record(logits, token),)
        self.ids.append(token)
        self.phases.append(self._decoded)
        text = self._stop.push(self._detokenizer.push(token))
        if self._stop.stopped:
            self._end(Delta(text, (token,), recorded, finish_reason="stop"))
            return
        self.sink.put(Delta(text, (token,), recorded))
        if self._is_complete(token):
            self._finish("stop")
        elif (limit := self._limit()) is not None:
            self._finish("length", limit)

    def _choose(self, logits: Floats) -> int:
        """The next token."""
        if self._forced:
            token = self._forced.pop(0)
            self._sampler.count(token)
            return token
        allowed = None if self._constraint is None else self._constraint.allowed()
        return self._sampler.sample(logits, allowed)

    def _guess(self, most: int) -> Sequence[int]:
        """Tokens that might follow, at most that number of them."""
        if self._proposer is None:
            return ()
        drafts = self._proposer.propose(self.ids, most)
        if self._constraint is not None:
            drafts = drafts[: self._constraint.count_allowed(drafts)]
        return drafts

    def _is_complete(self, token: int) -> bool:
        """Follow the grammar by a token; returns whether nothing can come after it."""
        if self._constraint is None:
            return False
        self._constraint.accept(token)
        if self._constraint.must_end:
            return True
        self._forced = self._forced or self._constraint.forced()
        return False

    def _first(self) -> None:
        """Say what was read before the first token."""
        now = time.perf_counter()
        self.metrics.time_to_first_token = now - (self._begun or now)
        # The last token of the prompt was computed with the answers' tokens.
        self.sink.put(Delta(prefilled=self._unreported + 1))

    def _limit(self) -> Limit | None:
        if self.generated >= self.request.ending.max_tokens:
            return "max_gen_len"
        # The last token needs no room, because it is not fed.
        return "context_window" if len(self.ids) > self._window else None

    def _finish(self, reason: FinishReason, limit: Limit | None = None) -> None:
        """Give the text that was held back, and the reason of the end."""
        text = self._stop.push(self._detokenizer.finish()) + self._stop.finish()
        if self._stop.stopped:
            reason, limit = "stop", None
        self._end(Delta(text, finish_reason=reason, limit=limit))

    def _end(self, delta: Delta) -> None:
        self.finished = True
        self.sink.put(delta)
        self.sink.end()


def _recorder(request: Request, tokenizer: Tokenizer) -> LogprobRecorder | None:
    if request.logprobs is None:
        return None
    # As within a text, where a token keeps its leading space.
    return LogprobRecorder(
        request.logprobs, lambda token: tokenizer.decode([token], continues=True)
    )
