"""Saving a conversation in files, and going on from them.

The messages are a text for people (:mod:`mlc_llm.chat.transcript`). Their keys and values stand in
a second file beside it, whose name ends in ``.kv`` (:mod:`mlc_llm.runtime.cache_file`): it saves
the model from reading the conversation again, and can be deleted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.chat.transcript import Transcript, write_transcript
from mlc_llm.conversation import Conversation, Message
from mlc_llm.conversation.spelling import is_spelling
from mlc_llm.errors import SavedChatError
from mlc_llm.runtime.cache_header import is_cache_file
from mlc_llm.weights.locate import model_name
from mlc_llm.weights.paths import exists

logger = logging.getLogger("mlc_llm")

CACHE_SUFFIX = ".kv"


@dataclass(frozen=True)
class SavedChat:
    """What was saved.

    Args:
        messages: how many messages, without the system message.
        tokens: how many tokens have their keys and values in the second file.
        cache_file: that file; None where there was nothing to put into it.
        nbytes: its size.
    """

    messages: int
    tokens: int = 0
    cache_file: str | None = None
    nbytes: int = 0


@dataclass(frozen=True)
class RestoredChat:
    """What was restored.

    Args:
        messages: how many messages, without system messages.
        tokens: how many tokens have their keys and values again.
        prompt_tokens: how many tokens the conversation has. The others are read at the next turn.
        reason: why no keys and values were restored; empty where some were.
        other_model: the name of the model that the conversation was with, if that is not this one.
    """

    messages: int
    tokens: int = 0
    prompt_tokens: int = 0
    reason: str = ""
    other_model: str | None = None


def save(chat: LoadedChat, conversation: Conversation, path: Path) -> SavedChat:
    """Write a conversation, and what the KV cache holds of it.

    Raises:
        SavedChatError: there is nothing to save, something else is at one of the places, or a file
            cannot be written; the message says whether the messages are saved.
    """
    transcript = _transcript(chat, conversation)
    exists(path, SavedChatError)  # or it cannot be a path
    file = cache_file(path)
    _require_place(file)
    write_transcript(path, transcript)
    prompt = conversation.prompt()
    try:
        tokens = chat.engine.call(
            lambda stop: chat.model.save(file, prompt.ids, prompt.generated, stop)
        )
        if not tokens:
            # What is there belongs to what the messages were before.
            file.unlink(missing_ok=True)
            return SavedChat(transcript.turns)
        return SavedChat(transcript.turns, tokens, str(file), file.stat().st_size)
    except (SavedChatError, OSError) as error:
        raise SavedChatError(
            f"The messages are saved in {path}, and their keys and values are not: {error}",
            code="cache-unsaved",
        ) from None


def without_wrong_tokens(chat: LoadedChat, messages: Iterable[Message]) -> tuple[Message, ...]:
    """Messages of a file, without ``token_ids`` that do not spell their content."""

    def checked(message: Message) -> Message:
        ids, size = message.token_ids, chat.model.vocab_size
        if ids is None or is_spelling(chat.plan.tokenizer, ids, message.content, size):
            return message
        return replace(message, token_ids=None)

    return tuple(map(checked, messages))


def restore(
    chat: LoadedChat, conversation: Conversation, path: Path, transcript: Transcript
) -> RestoredChat:
    """Put keys and values back that were saved with a conversation.

    Args:
        chat: the model.
        conversation: the conversation, whose messages are restored already.
        path: the file that they come from.
        transcript: what it says.
    """
    here = model_name(chat.plan.folder.path)
    other = transcript.model if transcript.model not in ("", here) else None
    if not conversation.messages:
        return RestoredChat(0, other_model=other)
    prompt, file = conversation.prompt(), cache_file(path)
    tokens, level = 0, logging.WARNING
    try:
        if exists(file, SavedChatError):
            tokens = chat.engine.call(
                lambda stop: chat.model.restore(file, prompt.ids, prompt.generated, stop)
            )
            reason = "" if tokens else f"{file} belongs to another conversation"
        else:
            reason, level = f"there is no file {file}", logging.INFO
    except SavedChatError as error:
        reason = str(error)
    if reason:
        logger.log(level, "The conversation is read again at the next turn: %s", reason)
    return RestoredChat(transcript.turns, tokens, len(prompt.ids), reason, other)


def cache_file(path: Path) -> Path:
    """Where the keys and values of a conversation stand; a link to it changes nothing."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + CACHE_SUFFIX)


def _transcript(chat: LoadedChat, conversation: Conversation) -> Transcript:
    if all(message.role == "system" for message in conversation.messages):
        raise SavedChatError("There is no conversation to save yet.", code="chat-empty")
    return Transcript(model_name(chat.plan.folder.path), conversation.complete_messages)


def _require_place(file: Path) -> None:
    """Refuse to replace what mlc_llm has not written."""
    try:
        ours = not file.exists() or (file.is_file() and is_cache_file(file))
    except OSError as error:
        raise SavedChatError(
            f"{file} cannot be read: {error.strerror or error}.", code="file-unreadable"
        ) from None
    if not ours:
        raise SavedChatError(
            f"{file}, where the keys and values belong, is something else. Move it away, or choose "
            "another name.",
            code="path-taken",
        )
