"""A request that is being answered: one stream of steps of its answers, ended once and for all.

Each answer is read by a thread of its own, which hands its steps over as they come. So neither a
slow reader nor an event loop is in another's way, and a request can be aborted from anywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.errors import GenerationError
from mlc_llm.runtime.answer import Delta
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


Receiver = Callable[[Step | End], object]
"""Takes the steps and the end, in any thread and one at a time; never waits, and never raises."""


class Generation:
    """The answers to one request, while they are written.

    Args:
        request_id: the request's id.
        chat: the model.
        requests: what is asked of it, once an answer.
        receive: takes the steps, and the end after them.
        ended: is called once, before the end is handed over.

    Attributes:
        outcome: how it ended; None while it goes on.
        prefilled_tokens: tokens of prompts that were read so far.
        completion_tokens: tokens that were written so far.
    """

    def __init__(
        self,
        request_id: str,
        chat: LoadedChat,
        requests: Sequence[Request],
        receive: Receiver,
        ended: Callable[[Generation], None],
    ) -> None:
        self.request_id = request_id
        self.outcome: Outcome | None = None
        self.prefilled_tokens = 0
        self.completion_tokens = 0
        self.prompt_tokens = len(requests[0].prompt.ids)
        self._receive = receive
        self._ended = ended
        self._lock = threading.Lock()
        self._open = set(range(len(requests)))
        self._dropped = False
        self._threads = [
            threading.Thread(
                target=self._write,
                args=(chat, request, index),
                name=f"mlc_llm answer {index} of {request_id[:40]}",
                daemon=True,
            )
            for index, request in enumerate(requests)
        ]

    @property
    def alive(self) -> bool:
        """Whether a step or the end may still come: threads do not survive ``os.fork``."""
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Have the answers written.

        Raises:
            GenerationError: the system lets no more threads start; none is written.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            reason = GenerationError(
                f"No thread can be started to read the answer ({error}): there are "
                f"{threading.active_count()}. Wait until other requests have ended.",
                code="threads-exhausted",
            )
            self.fail(reason)
            raise reason from None

    def abort(self) -> bool:
        """End all answers as they are; False where they had ended already."""
        with self._lock:
            if self.outcome is not None:
                return False
            for index in sorted(self._open):
                self._receive(Step(index, Delta(finish_reason="cancelled")))
            self._end("aborted", End())
        return True

    def fail(self, error: BaseException) -> None:
        """End all answers with an error, if they have not ended."""
        with self._lock:
            if self.outcome is not None:
                return
            self._end("failed", End(error))

    def drop(self) -> None:
        """Stop at the next step: the reader has gone.

        It takes no lock: finalizers may call it, in any thread at any time.
        """
        self._dropped = True

    def _write(self, chat: LoadedChat, request: Request, index: int) -> None:
        """Hand over the steps of one answer; runs in a thread of its own."""
        try:
            with closing(chat.stream(request)) as deltas:
                for delta in deltas:
                    if not self._pass_on(Step(index, delta)):
                        return
        except BaseException as error:
            self.fail(error)

    def _pass_on(self, step: Step) -> bool:
        """Hand over a step; False where no more is wanted."""
        with self._lock:
            if self.outcome is not None:
                return False
            self.prefilled_tokens += step.delta.prefilled
            self.completion_tokens += len(step.delta.token_ids)
            if not self._dropped:
                self._receive(step)
                if step.delta.finish_reason is not None:
                    self._open.discard(step.index)
                if self._open:
                    return True
            self._end("aborted" if self._dropped else "finished", End())
        return False

    def _end(self, outcome: Outcome, end: End) -> None:
        """Tell first that the request has ended, so that who has read its end may use its id."""
        self.outcome = outcome
        self._ended(self)
        self._receive(end)
