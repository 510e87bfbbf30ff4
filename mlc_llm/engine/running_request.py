"""A request that is being answered: one stream of steps of its answers, ended once and for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.runtime.answer import Delta
from mlc_llm.runtime.outbox import Pace
from mlc_llm.runtime.request import Request

Outcome = Literal["finished", "aborted", "failed"]


@dataclass(frozen=True)
class Step:
    """A step of one of the answers.

    Args:
        index: which answer.
        delta: the step.
    """

    index: int
    delta: Delta


@dataclass(frozen=True)
class End:
    """No step comes any more.

    Args:
        error: what broke the answers off; None where nothing did.
    """

    error: BaseException | None = None


Receiver = Callable[[Sequence[Step | End]], object]
"""Takes some steps, or the end, in any thread and one call at a time; never waits or raises."""


class RunningRequest:
    """The answers to one request, while they are written.

    The engine thread hands their steps over, so that no thread waits for them but the reader's own.

    Args:
        request_id: the request's id.
        chat: the model.
        requests: what is asked of it, once an answer.
        receive: takes the steps, and the end after them.
        ended: is called once, before the end is handed over; must take no lock.

    Attributes:
        outcome: how it ended; None while it goes on.
        prompt_tokens: tokens of the prompt.
        prefilled_tokens: tokens of prompts that were read so far.
        completion_tokens: tokens that were written so far.
    """

    def __init__(
        self,
        request_id: str,
        chat: LoadedChat,
        requests: Sequence[Request],
        receive: Receiver,
        ended: Callable[[RunningRequest], None],
    ) -> None:
        self.request_id = request_id
        self.outcome: Outcome | None = None
        self.prompt_tokens = len(requests[0].prompt.ids)
        self.prefilled_tokens = 0
        self.completion_tokens = 0
        self._chat, self._requests = chat, requests
        self._receive, self._ended = receive, ended
        self._lock = threading.Lock()
        self._open = set(range(len(requests)))
        self._cancels: list[Callable[[], None]] = []
        self._unended = [True]

    @property
    def alive(self) -> bool:
        """Whether a step or the end may still come: threads do not survive ``os.fork``."""
        return self._chat.engine.alive

    def start(self) -> None:
        """Have the answers written.

        Raises:
            MLCError: the model is closed, or cannot be asked for that; none is written.
        """
        try:
            for index, request in enumerate(self._requests):
                self._cancels.append(self._chat.submit(request, _AnswerSink(self, index)))
        except BaseException as error:
            self.fail(error)
            raise
        if self.outcome == "aborted":  # Meanwhile, by another thread.
            self._cancel()

    def abort(self) -> bool:
        """End all answers as they are; False where they had ended already."""
        with self._lock:
            if not self._claim("aborted"):
                return False
            last = [Step(index, Delta(finish_reason="cancelled")) for index in sorted(self._open)]
            self._receive([*last, End()])
        self._cancel()
        return True

    def fail(self, error: BaseException) -> None:
        """End all answers with an error, if they have not ended."""
        with self._lock:
            if not self._claim("failed"):
                return
            self._receive([End(error)])
        self._cancel()

    def drop(self) -> None:
        """Stop: the reader has gone.

        It takes no lock: finalizers may call it, in any thread at any time.
        """
        self._claim("aborted")
        self._cancel()

    def pass_on(self, index: int, deltas: Sequence[Delta]) -> None:
        """Hand over steps of an answer; called in the engine thread."""
        with self._lock:
            if self.outcome is not None:
                return
            self.prefilled_tokens += sum(delta.prefilled for delta in deltas)
            self.completion_tokens += sum(len(delta.token_ids) for delta in deltas)
            events: list[Step | End] = [Step(index, delta) for delta in deltas]
            if deltas[-1].finish_reason is not None:
                self._open.discard(index)
            if not self._open and self._claim("finished"):
                events.append(End())
            self._receive(events)

    def _claim(self, outcome: Outcome) -> bool:
        """End, if nothing has ended it yet: of all that try, one takes the list's element."""
        try:
            self._unended.pop()
        except IndexError:
            return False
        self.outcome = outcome
        self._ended(self)
        return True

    def _cancel(self) -> None:
        for cancel in self._cancels:
            cancel()


class _AnswerSink:
    """Takes the steps of one answer from the engine thread, and passes some at a time on.

    It is never full: a reader may be as slow as it likes, and what waits for it is no more than an
    answer.

    Args:
        running: what the answer belongs to.
        index: which answer.
    """

    is_full = False

    def __init__(self, running: RunningRequest, index: int) -> None:
        self._running, self._index = running, index
        self._pace = Pace()
        self._deltas: list[Delta] = []

    def put(self, delta: Delta) -> None:
        """See :class:`~mlc_llm.runtime.outbox.Sink`."""
        self._deltas.append(delta)
        if self._pace.allows():
            self.flush()

    def flush(self) -> None:
        """See :class:`~mlc_llm.runtime.outbox.Sink`."""
        if self._deltas:
            deltas, self._deltas = self._deltas, []
            self._running.pass_on(self._index, deltas)

    def end(self, error: BaseException | None = None) -> None:
        """See :class:`~mlc_llm.runtime.outbox.Sink`."""
        self.flush()
        if error is not None:
            self._running.fail(error)
