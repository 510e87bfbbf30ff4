"""One loaded model with all requests that it is answering: what both engines are made of."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, get_args

from mlc_llm.chat.known_answers import KnownAnswers
from mlc_llm.chat.loading import LoadedChat, load_chat
from mlc_llm.chat.plan import plan_chat
from mlc_llm.chat.turn import Turn
from mlc_llm.config import ChatConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.conversation.message import ASSISTANT
from mlc_llm.conversation.spelling import spelling
from mlc_llm.engine.config import MEMORY_SHARE, EngineConfig, EngineSizes, Mode
from mlc_llm.engine.metrics import EngineMetrics
from mlc_llm.engine.prompts import chat_turn, completion_turn
from mlc_llm.engine.replies import ChatReplies, Chunk, Heading, Replies, TextReplies, Whole
from mlc_llm.engine.running_request import Receiver, RunningRequest
from mlc_llm.errors import ConfigError, GenerationError, MLCError, unknown
from mlc_llm.grammar import GrammarCompiler, ResponseFormat
from mlc_llm.protocol import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
    GenerationRequest,
)
from mlc_llm.registry.choice import AUTO, Choice
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.answer import GenerationResult
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.memory import MemoryEstimate
from mlc_llm.runtime.request import Request
from mlc_llm.shown import shown
from mlc_llm.version import __version__


@dataclass(frozen=True)
class Prepared(Generic[Whole, Chunk]):
    """A request that was checked, and has not begun.

    Args:
        request_id: its id.
        requests: what it asks of the model, once an answer.
        replies: makes its reply.
        streams: whether that comes in chunks.
    """

    request_id: str
    requests: tuple[Request, ...]
    replies: Replies[Whole, Chunk]
    streams: bool


class ServedModel:
    """A loaded model, and the requests that it is answering. Any thread may use it.

    The arguments and errors are those of :class:`~mlc_llm.engine.MLCEngine`.

    Attributes:
        chat: the model.
    """

    def __init__(
        self,
        model: str,
        device: str,
        model_lib: str | None,
        mode: Mode,
        engine_config: EngineConfig | None,
        chat_config: ChatConfig | None,
        progress: bool,
    ) -> None:
        config = _checked(mode, engine_config, chat_config)
        registry = default_registry()
        overlay = config.laid_under(chat_config)

        def sizes(
            window: ContextWindow, need: MemoryEstimate, available: int | None
        ) -> ContextWindow:
            room = None if available is None else need.fitting_window(int(available * MEMORY_SHARE))
            return EngineSizes.choose(config, mode, window, room).of_cache(window)

        plan = plan_chat(
            model, device, overlay, model_lib, registry, progress=progress, sizes=sizes
        )
        self.chat: LoadedChat = load_chat(plan, registry)
        self._finalizer = weakref.finalize(self, self.chat.engine.abandon)
        self._proposes = config.speculative_mode == "ngram"
        self._conversation = Conversation(plan.settings.template, plan.tokenizer)
        vocab_size = plan.settings.file.usable_vocab_size
        self._grammars = GrammarCompiler(plan.tokenizer, vocab_size)
        self._known = KnownAnswers()
        self._planning = threading.Lock()
        # Changed without a lock, by calls that nothing comes between: finalizers end requests, too.
        self._running: dict[str, RunningRequest] = {}
        self._uncounted: deque[tuple[Any, int, int, int]] = deque()
        self._counting = threading.Lock()
        self._metrics = EngineMetrics()
        self._name = str(model)
        self._names = {self._name, str(plan.folder.path), Path(plan.folder.path).name}
        digest = f"{__version__} {plan.device} {plan.model.spec.digest()}"
        self._fingerprint = f"fp_{hashlib.sha256(digest.encode()).hexdigest()[:12]}"

    def prepare_chat(
        self, request: ChatCompletionRequest
    ) -> Prepared[ChatCompletion, ChatCompletionChunk]:
        """Check a conversation, and lay it out for the model.

        Raises:
            MLCError: something of it is wrong; see :func:`mlc_llm.engine.prompts.chat_turn`.
        """
        self._require_alive()
        heading = self._heading(request, "chatcmpl")
        messages = self._known.recognise(map(Message.of, request.messages))
        with self._planning:
            turn = chat_turn(self.chat, self._conversation, messages, request)
        requests = self._requests(turn, request)
        replies = ChatReplies(
            heading,
            requests,
            self.chat.plan.tokenizer,
            request.includes_usage,
            partial(self._know, messages),
        )
        return Prepared(heading.id, requests, replies, bool(request.stream))

    def prepare_completion(self, request: CompletionRequest) -> Prepared[Completion, Completion]:
        """:meth:`prepare_chat` for raw text."""
        self._require_alive()
        heading = self._heading(request, "cmpl")
        with self._planning:
            turn = completion_turn(self.chat, request)
        requests = self._requests(turn, request)
        tokenizer, usage = self.chat.plan.tokenizer, request.includes_usage
        replies = TextReplies(heading, requests, tokenizer, usage)
        return Prepared(heading.id, requests, replies, bool(request.stream))

    def begin(
        self, request_id: str, requests: Sequence[Request], receive: Receiver
    ) -> RunningRequest:
        """Have the answers to a request written.

        Args:
            request_id: its id, which no other running request has.
            requests: what it asks of the model.
            receive: takes the steps.

        Raises:
            ConfigError: a request of that id is running.
            GenerationError: the engine is terminated.
        """
        self._require_alive()
        running = RunningRequest(request_id, self.chat, requests, receive, self._ended)
        if self._running.setdefault(request_id, running) is not running:
            raise ConfigError(
                f"A request with the id {shown(request_id)} is running. Give each request its own "
                "id, or leave request_id out.",
                code="request-id-taken",
            )
        try:
            running.start()
        except GenerationError:
            self._require_alive()
            raise
        return running

    def loaded_chat(self, model: str, device: str, model_lib: str | None) -> LoadedChat:
        """The model, when these arguments of a chat name no other one; see ``Shareable``.

        Raises:
            ConfigError: they do.
            GenerationError: the engine is terminated.
        """
        self._require_alive()
        plan, library = self.chat.plan, str(self.chat.library)
        given = {"model": (str(model), self._names), "device": (device, _names_of(plan.device))}
        if model_lib is not None:
            given["model_lib"] = (str(model_lib), {library})
        for name, (value, names) in given.items():
            if value not in names:
                raise ConfigError(
                    f"The {name} of the shared engine is {shown(sorted(names)[0])}, not "
                    f"{shown(value)}. Give the same, or make a ChatModule without the engine.",
                    code="model-not-served",
                )
        return self.chat

    def abort(self, request_id: str) -> bool:
        """End a request; False where none of that id is running."""
        running = self._running.get(request_id)
        return running is not None and running.abort()

    def metrics(self) -> EngineMetrics:
        """What was done so far."""
        with self._counting:
            while self._uncounted:
                self._metrics.count(*self._uncounted.popleft())
            speed = self.chat.metrics.snapshot()
            return replace(self._metrics, running_requests=len(self._running), speed=speed)

    def terminate(self) -> None:
        """End all requests with an error, and let go of the model. May be called twice."""
        if self._finalizer.detach() is None:
            return
        for running in list(self._running.values()):
            running.fail(_terminated())
        self.chat.engine.close()
        self.chat.model.release()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", terminated"
        return f"{self._name!r}, device={str(self.chat.plan.device)!r}{state}"

    def _requests(self, turn: Turn, request: GenerationRequest) -> tuple[Request, ...]:
        """What is asked of the model, once an answer."""
        form = ResponseFormat.parse(request.response_format)
        grammar = None if form is None else self._grammars.compile(form)
        settings, count = self.chat.plan.settings, request.n or 1
        return tuple(
            replace(turn.request(settings, number), grammar=grammar, proposes=self._proposes)
            for number in range(count)
        )

    def _know(self, messages: Sequence[Message], result: GenerationResult) -> None:
        """Take note of an answer, by whose text the next request may have it."""
        tokens = spelling(self.chat.plan.tokenizer, result.token_ids, result.text)
        self._known.add(messages, Message(ASSISTANT, result.text, tokens))

    def _heading(self, request: GenerationRequest, kind: str) -> Heading:
        if request.model is not None and request.model not in self._names:
            raise ConfigError(
                f"This engine serves {self._name!r}, not {shown(request.model)}. Leave model out, "
                "or give the name that the engine was made with.",
                code="model-not-served",
            )
        request_id = request.request_id or f"{kind}-{uuid.uuid4().hex}"
        model = request.model or self._name
        return Heading(request_id, int(time.time()), model, self._fingerprint)

    def _ended(self, running: RunningRequest) -> None:
        """Take note of a request that has ended. It takes no lock: finalizers may call it."""
        self._running.pop(running.request_id, None)
        self._uncounted.append(
            (
                running.outcome,
                running.prompt_tokens,
                running.prefilled_tokens,
                running.completion_tokens,
            )
        )

    def _require_alive(self) -> None:
        if not self._finalizer.alive:
            raise _terminated()


def _names_of(device: Choice) -> set[str]:
    """What the device that a model runs on may be called."""
    return {str(device), device.device.name, AUTO}


def _terminated() -> MLCError:
    return GenerationError(
        "The engine was terminated; make another one to go on.", code="engine-terminated"
    )


def _checked(mode: object, engine_config: object, chat_config: object) -> EngineConfig:
    """The configuration, when all is of its kind and can be served."""
    if mode not in get_args(Mode):
        raise ConfigError(unknown("mode", mode, get_args(Mode)), code="field-unknown")
    kinds = (
        ("engine_config", engine_config, EngineConfig),
        ("chat_config", chat_config, ChatConfig),
    )
    for name, value, kind in kinds:
        if value is not None and not isinstance(value, kind):
            raise ConfigError(
                f"{name} must be {kind.__name__}(...), not {shown(value)}.",
                code="argument-mistyped",
            )
    config = engine_config if isinstance(engine_config, EngineConfig) else EngineConfig()
    return config.model_copy(deep=True)
