"""A model to measure, loaded as a chat loads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlc_llm.chat.loading import LoadedChat, load_chat
from mlc_llm.chat.plan import plan_chat
from mlc_llm.config import ChatConfig
from mlc_llm.registry.registry import default_registry


@contextmanager
def open_chat(
    model: str,
    device: str = "auto",
    chat_config: ChatConfig | None = None,
    model_lib: str | None = None,
) -> Iterator[LoadedChat]:
    """Load a model, and let go of it after the ``with`` block.

    Args:
        model: a model folder, ``HF://org/name`` or ``demo``.
        device: ``auto``, a device's name, or ``name:index``.
        chat_config: overrides of the model's configuration; ``num_threads`` and ``opt`` matter
            here.
        model_lib: a compiled library; by default one is found, or compiled and cached.

    Raises:
        MLCError: something is missing, malformed or does not fit; see ``mlc_llm.errors``.
    """
    registry = default_registry()
    chat = load_chat(plan_chat(model, device, chat_config, model_lib, registry), registry)
    try:
        yield chat
    finally:
        chat.engine.close()
        chat.model.release()
