"""The hooks: where several plugins are asked one question, or told of one event.

A library provider has hooks of :class:`LibraryProviderHooks`, an observer of
:class:`ObserverHooks`. Each is marked with :data:`hookimpl`, and takes those of the arguments that
it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound

PROJECT = "mlc_llm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class LibraryProviderHooks:
    """What a plugin of the group ``mlc_llm.model_libraries`` answers."""

    @hookspec
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound | None:
        """Return a library that serves ``request``, or why there is none, or None to say nothing.

        Providers are asked in the order of their ``order`` attribute; the first ``Found`` whose
        library fits is taken. One that raises is recorded, and the next is asked.

        Args:
            request: the model, the device and its target, and the user's wishes.
        """


class ObserverHooks:
    """What a plugin of the group ``mlc_llm.observers`` is told.

    An observer that raises is recorded and warned of once for each event; the chat goes on.
    """

    @hookspec
    def mlc_llm_chat_loaded(self, chat: Any) -> None:
        """A ``ChatModule`` has loaded its model.

        Args:
            chat: the ``ChatModule``.
        """

    @hookspec
    def mlc_llm_chat_generated(self, chat: Any, prompt: Any, output: Any) -> None:
        """A ``ChatModule`` has answered.

        Args:
            chat: the ``ChatModule``.
            prompt: what was asked, as it was given.
            output: the answer's text; a list of them where several were asked for.
        """

    @hookspec
    def mlc_llm_chat_closed(self, chat: Any) -> None:
        """A ``ChatModule`` is closed.

        Args:
            chat: the ``ChatModule``; it cannot be used any more.
        """
