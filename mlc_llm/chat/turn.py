"""One turn of a chat: a prompt, and what is asked of the model to answer it."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.chat.prompt_budget import fit
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError
from mlc_llm.runtime.answer import Ending
from mlc_llm.runtime.request import Request
from mlc_llm.tokenizer import PromptTokens


@dataclass(frozen=True)
class Turn:
    """What is needed to answer a prompt; nothing has been changed yet.

    Args:
        messages: the conversation with the message to answer.
        prompt: its tokens.
        generation: the user's overlay.
        ending: when an answer ends.
        continues: whether answers continue the prompt's text, so that a leading space stays.
    """

    messages: tuple[Message, ...]
    prompt: PromptTokens
    generation: GenerationConfig
    ending: Ending
    continues: bool

    @classmethod
    def plan(
        cls,
        chat: LoadedChat,
        settings: ChatSettings,
        conversation: Conversation,
        messages: tuple[Message, ...],
        generation: GenerationConfig,
    ) -> Turn:
        """Lay the prompt out and check it, before the model is asked.

        Raises:
            PromptTooLongError: the prompt does not fit into the context window.
            ConfigError: the prompt is empty.
        """
        budget = settings.budget(generation, chat.model.window.size)
        goes_on = bool(generation.continue_final_message)
        messages, prompt = fit(conversation, messages, budget, continues=goes_on)
        if not prompt.ids:
            raise ConfigError("The prompt is empty: it has no tokens.", code="prompt-empty")
        stops, specials = generation.stop or [], chat.plan.tokenizer.special_ids
        # A special token has no text, in which it could be found.
        named = {specials[stop] for stop in stops if stop in specials}
        ending = Ending(
            settings.max_tokens(generation),
            conversation.stop_ids.union(settings.file.eos_token_ids, named),
            (*conversation.stop_strings, *stops),
        )
        continues = goes_on or not conversation.template.has_memory
        return cls(messages, prompt, generation, ending, continues)

    def request(self, settings: ChatSettings, number: int = 0) -> Request:
        """What is asked of the model for one answer.

        Args:
            settings: the chat's settings.
            number: which of several answers; with a seed, each gets another one.
        """
        generation = self.generation
        seed = None if generation.seed is None else generation.seed + number
        return Request(
            self.prompt,
            self.ending,
            settings.sampling(generation),
            seed,
            generation.logprobs,
            self.continues,
        )
