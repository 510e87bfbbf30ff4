"""The hooks: where several plugins are asked one question, or told of one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound

PROJECT = "mlc_llm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def mlc_llm_find_library(request: LibraryRequest) -> Found | NotFound | None:
    """Return a library that serves ``request``, or why there is none, or None to say nothing.

    Providers are asked in the order of their ``order`` attribute; the first ``Found`` is taken.
    """


@hookspec
def mlc_llm_chat_loaded(chat: Any) -> None:
    """A ``ChatModule`` has loaded its model."""


@hookspec
def mlc_llm_chat_generated(chat: Any, prompt: Any, output: Any) -> None:
    """A ``ChatModule`` has generated ``output`` for ``prompt``."""


@hookspec
def mlc_llm_chat_closed(chat: Any) -> None:
    """A ``ChatModule`` is closed."""
