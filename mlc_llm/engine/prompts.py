"""From a request to a prompt, and to when its answers end."""

from __future__ import annotations

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.chat.turn import Turn
from mlc_llm.config import GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError, PromptTooLongError, TokenizerError
from mlc_llm.protocol import ChatCompletionRequest, CompletionRequest
from mlc_llm.runtime.answer import Ending
from mlc_llm.tokenizer import PromptTokens


def chat_turn(
    chat: LoadedChat,
    conversation: Conversation,
    messages: tuple[Message, ...],
    request: ChatCompletionRequest,
) -> Turn:
    """What a conversation asks of the model, which has nothing to refuse of it.

    It is answered as it was sent. A ``ChatModule`` drops the oldest turns of its own conversation
    when the window is full; this one is the caller's.

    Args:
        chat: the model.
        conversation: lays messages out; its own history is not touched.
        messages: those of the request.
        request: the request.

    Raises:
        PromptTooLongError: the prompt is longer than a sequence may be.
        ConfigError: a message or an argument is malformed.
        TemplateError: the template has no role of a message.
        TokenizerError: a message has an invalid character, or a token that the model does not have.
    """
    prompt = conversation.prompt(messages)
    generation = request.generation()
    if request.ignore_eos:
        ending = _ending(chat, generation)
    else:
        stop_ids = conversation.stop_ids.union(chat.plan.settings.file.eos_token_ids)
        ending = _ending(chat, generation, stop_ids, conversation.stop_strings)
    continues = not conversation.template.has_memory
    return _checked(chat, Turn(messages, prompt, generation, ending, continues))


def completion_turn(chat: LoadedChat, request: CompletionRequest) -> Turn:
    """What raw text asks of the model; see :func:`chat_turn`."""
    tokenizer, prompt, generation = chat.plan.tokenizer, request.prompt, request.generation()
    if isinstance(prompt, str):
        bos = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        prompt = [*bos, *tokenizer.encode(prompt)]
    own = tokenizer.end_ids.union(chat.plan.settings.file.eos_token_ids)
    ending = _ending(chat, generation, frozenset() if request.ignore_eos else own)
    turn = Turn((), PromptTokens(prompt), generation, ending, continues=True)
    return _checked(chat, turn)


def _ending(
    chat: LoadedChat,
    generation: GenerationConfig,
    stop_ids: frozenset[int] = frozenset(),
    stop_strings: tuple[str, ...] = (),
) -> Ending:
    """When an answer ends: as the request says, and by the model's own tokens and strings."""
    stops, specials = generation.stop or [], chat.plan.tokenizer.special_ids
    # A special token has no text, in which it could be found.
    named = {specials[stop] for stop in stops if stop in specials}
    most = chat.plan.settings.max_tokens(generation)
    return Ending(most, stop_ids | named, (*stop_strings, *stops))


def _checked(chat: LoadedChat, turn: Turn) -> Turn:
    """The turn, when the model has all its tokens, and room for them."""
    ids, size = turn.prompt.ids, chat.plan.settings.file.usable_vocab_size
    longest = chat.plan.model.window.size
    if not ids:
        raise ConfigError("The prompt is empty: it has no tokens.", code="prompt-empty")
    if len(ids) > longest:
        raise PromptTooLongError(
            f"The prompt has {len(ids)} tokens, and a sequence holds {longest}. Shorten it, leave "
            "out old messages, or set a larger EngineConfig(max_single_sequence_length=...) if "
            "the model can."
        )
    if (largest := max(ids)) >= size:
        raise TokenizerError(
            f"The prompt has the token {largest}, which is not in the model's vocabulary of "
            f"{size}. Leave it, or its text, out.",
            code="token-unknown",
        )
    if strangers := [token for token in turn.generation.logit_bias or () if token >= size]:
        raise ConfigError(
            f"logit_bias names the tokens {strangers}; the model has {size}.",
            code="token-unknown",
        )
    return turn
