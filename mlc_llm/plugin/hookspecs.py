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

    Providers are asked in the order of their ``order`` attribute; the first ``Found`` whose library
    fits is taken. One that raises is recorded, and the next is asked.

    Args:
        request: the model, the device and its target, and the user's wishes.
    """


@hookspec
def mlc_llm_chat_loaded(chat: Any) -> None:
    """A ``ChatModule`` has loaded its model.

    Args:
        chat: the ``ChatModule``.
    """


@hookspec
def mlc_llm_chat_generated(chat: Any, prompt: Any, output: Any) -> None:
    """A ``ChatModule`` has answered.

    Args:
        chat: the ``ChatModule``.
        prompt: what was asked, as it was given.
        output: the answer's text; a list of them where several were asked for.
    """


@hookspec
def mlc_llm_chat_closed(chat: Any) -> None:
    """A ``ChatModule`` is closed.

    Args:
        chat: the ``ChatModule``; it cannot be used any more.
    """
