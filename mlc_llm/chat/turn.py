"""One turn of a chat: a prompt, and its answers step by step."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.chat.prompt_budget import fit
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError
from mlc_llm.runtime.generation import Delta, Ending, generate
from mlc_llm.runtime.logprobs import LogprobRecorder
from mlc_llm.runtime.sampler import Sampler
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

    def run(
        self, chat: LoadedChat, settings: ChatSettings, number: int = 0
    ) -> Generator[Delta, None, None]:
        """Generate one answer in the engine thread, and yield its steps.

        Args:
            chat: the model.
            settings: the chat's settings.
            number: which of several answers; with a seed, each gets another one.
        """
        generation = self.generation
        seed = None if generation.seed is None else generation.seed + number
        sampler = Sampler(settings.sampling(generation), seed, self.prompt.ids)
        detokenizer = chat.plan.tokenizer.stream(continues=self.continues)
        recorder = self._recorder(chat)
        yield from chat.engine.stream(
            lambda stop: generate(
                chat.model, self.prompt, sampler, self.ending, detokenizer, recorder
            )
        )

    def _recorder(self, chat: LoadedChat) -> LogprobRecorder | None:
        count = self.generation.logprobs
        if count is None:
            return None
        # As within a text, where a token keeps its leading space.
        tokenizer = chat.plan.tokenizer
        return LogprobRecorder(count, lambda token: tokenizer.decode([token], continues=True))
