"""Loading a chat: from its plan to a model that runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from mlc_llm.chat.plan import ChatPlan, Check, ModelPlan, plan_chat
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import ChatConfig
from mlc_llm.library.resolve import resolve_library
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.runtime import memory
from mlc_llm.runtime.answer import Delta
from mlc_llm.runtime.engine import Engine, Stop
from mlc_llm.runtime.failures import as_device_errors, require_room
from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.lost_device import losses_reported
from mlc_llm.runtime.outbox import Outbox, Sink
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.scheduler import Scheduler
from mlc_llm.runtime.statistics import Metrics

logger = logging.getLogger("mlc_llm")


class Shareable(Protocol):
    """What has a model that chats can share: an ``MLCEngine`` or an ``AsyncMLCEngine``."""

    def loaded_chat(self, model: str, device: str, model_lib: str | None) -> LoadedChat:
        """The model, when these arguments of a chat name no other one.

        Raises:
            ConfigError: they do.
            GenerationError: the engine was terminated.
        """


@dataclass(frozen=True)
class LoadedChat:
    """A model that runs.

    Args:
        plan: what it was made of.
        library: the compiled library.
        engine: the thread that runs the model.
        model: the model; only the engine may touch it.
        metrics: how fast answers were written; written to in the engine thread.
        shared: whether others use the model, too.
    """

    plan: ChatPlan
    library: Path
    engine: Engine
    model: LoadedModel
    metrics: Metrics = field(default_factory=Metrics)
    shared: bool = False

    def share(self, chat_config: ChatConfig | None, registry: Registry) -> LoadedChat:
        """Another chat with the same model, which has settings and measurements of its own.

        Args:
            chat_config: overrides of the model's configuration.
            registry: where templates are looked up.

        Raises:
            ConfigError: a setting is wrong, or needs another library or other sizes.
            MLCError: the template does not serve.
        """
        settings = ChatSettings.of(
            self.plan.folder.config, chat_config, registry, self.plan.folder.path
        )
        plan = self.plan.sharing(settings, registry)
        return replace(self, plan=plan, metrics=Metrics(), shared=True)

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Generate an answer, and yield its steps; see :class:`~mlc_llm.runtime.answer.Delta`.

        Closing the generator stops the generation.

        Raises:
            PromptTooLongError: the prompt does not fit into the context window.
            TokenizerError: a token of the prompt is not in the model's vocabulary.
            GenerationError: the model failed, or is closed.
        """
        with self.answers([request]) as [steps]:
            yield from steps

    @contextmanager
    def answers(self, requests: Sequence[Request]) -> Iterator[list[Generator[Delta, None, None]]]:
        """Generate several answers at the same time; those that are not complete stop at the end.

        Args:
            requests: what is asked for. All but the first are written to their end, whether their
                steps are taken or not.

        Yields:
            The steps of each; see :meth:`stream`.
        """
        outboxes = [
            Outbox(self.engine.wake, bounded=number == 0) for number in range(len(requests))
        ]
        cancels: list[Callable[[], None]] = []
        try:
            for request, outbox in zip(requests, outboxes, strict=True):
                cancels.append(self.submit(request, outbox))
            yield [self.engine.steps_of(outbox) for outbox in outboxes]
        finally:
            for cancel in cancels:
                cancel()

    def submit(self, request: Request, sink: Sink) -> Callable[[], None]:
        """Have an answer generated; returns at once.

        Args:
            request: what is asked for.
            sink: takes the steps, and the error if there is one, in the engine thread.

        Returns:
            A function that any thread may call to stop the generation; it does not block.

        Raises:
            GenerationError: the model is closed.
        """
        generation = Generation(request, self.plan.tokenizer, sink, self.metrics)
        self.engine.submit(generation)

        def cancel() -> None:
            if not generation.finished:
                self.engine.cancel(generation)

        return cancel


@contextmanager
def open_chat(
    model: str,
    device: str = "auto",
    chat_config: ChatConfig | None = None,
    model_lib: str | None = None,
    *,
    progress: bool = False,
    check: Check | None = None,
) -> Iterator[LoadedChat]:
    """Load a model, and let go of it after the ``with`` block.

    Args:
        model: a model folder, a checkpoint, ``HF://org/name`` or a short name such as ``demo``.
        device: ``auto``, a device's name, or ``name:index``.
        chat_config: overrides of the model's configuration.
        model_lib: a compiled library; by default one is found, or compiled and cached.
        progress: whether to show the progress of a download and of a conversion on stderr, when
            that is a terminal.
        check: is given the plan before anything is converted, compiled or loaded; what it raises,
            this does.

    Raises:
        MLCError: something is missing, malformed or does not fit; see ``mlc_llm.errors``.
    """
    registry = default_registry()
    plan = plan_chat(
        model, device, chat_config, model_lib, registry, progress=progress, check=check
    )
    chat = load_chat(plan, registry)
    try:
        yield chat
    finally:
        chat.engine.close()
        chat.model.release()


def load_chat(plan: ChatPlan, registry: Registry) -> LoadedChat:
    """Find or compile the library, and load the model.

    Args:
        plan: what is needed; see :func:`mlc_llm.chat.plan.plan_chat`.
        registry: where providers of libraries are looked up.

    Raises:
        LibraryError: there is no library, or it cannot be opened.
        ModelFolderError: the weights do not fit the library.
        DeviceError: the device cannot be opened, or has too little memory left.
    """
    require_room(str(plan.device), plan.model.memory)
    library = resolve_library(plan.request, registry).path
    logger.info("Using library model: %s", library)
    with as_device_errors(str(plan.device), plan.model.memory):
        engine = Engine(f"mlc_llm engine of {plan.folder.path.name}")
    try:
        model = engine.call(lambda stop: _load_model(engine, plan, library, stop))
    except BaseException:
        engine.close()
        raise
    return LoadedChat(plan, library, engine, model)


def _load_model(engine: Engine, plan: ChatPlan, library: Path, stop: Stop) -> LoadedModel:
    """Open the device, load the model, and have its answers written; runs in the engine thread."""
    need, window = plan.model.memory, plan.model.window
    threads = plan.settings.file.num_threads
    with as_device_errors(str(plan.device), need), plan.folder as folder:
        device = plan.device.device.open(plan.device.index)
        capture = partial(plan.device.device.capture, device)
        with losses_reported(device):
            memory.require(need, memory.available_on(plan.device.adapter, device), window)
            model = LoadedModel.load(
                library, folder, device, window, threads=threads, stop=stop, capture=capture
            )
    engine.run_steps(Scheduler(model))
    return model


def resize(chat: LoadedChat, planned: ModelPlan) -> None:
    """Give a chat a new, empty KV cache of the planned sizes; if that fails, the old one stays.

    Raises:
        DeviceError: there is not enough memory.
    """
    model, adapter, window = chat.model, chat.plan.device.adapter, planned.window
    need = replace(planned.memory, weights=0)  # They are there already.

    def change(stop: Stop) -> None:
        memory.require(need, memory.available_on(adapter, model.device), window)
        with as_device_errors(str(chat.plan.device), need):
            model.resize(window)

    chat.engine.call(change)
