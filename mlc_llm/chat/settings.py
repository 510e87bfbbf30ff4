"""What is in force: the model file, under the chat's overlay, under that of one generation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.chat.prompt_budget import PromptBudget
from mlc_llm.config import ChatConfig, ConvConfig, GenerationConfig, ModelFile
from mlc_llm.conversation import ChatTemplate
from mlc_llm.errors import ConfigError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.runtime.threads import thread_count
from mlc_llm.shown import shown
from mlc_llm.tokenizer.chat_template import NAME, require_jinja_template

_SAMPLING = (
    "temperature",
    "top_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
_LENGTHS = ("mean_gen_len", "max_gen_len")

LOAD_TIME = (
    "model_lib",
    "opt",
    "deterministic",
    "num_threads",
    "context_window_size",
    "sliding_window_size",
    "prefill_chunk_size",
    "attention_sink_size",
)
"""Fields that were settled when the model was loaded, and stay when a chat is reset."""


_SETTLED = (
    "model_lib",
    "opt",
    "deterministic",
    "num_threads",
    "sliding_window_size",
    "attention_sink_size",
)
"""Those among them that only another load can change."""


@dataclass(frozen=True)
class ChatSettings:
    """The settings of a chat.

    Args:
        file: ``mlc-chat-config.json`` with the user's overlay.
        template: the conversation template with the user's overlay: the one that the file or the
            user names, or else the model's own.
        overlay: the user's overlay itself.
    """

    file: ModelFile
    template: ChatTemplate
    overlay: ChatConfig

    @classmethod
    def of(
        cls,
        model: ModelFile,
        overlay: ChatConfig | None,
        registry: Registry,
        folder: Path,
    ) -> ChatSettings:
        """Lay the user's overlay over a model's own file.

        Args:
            model: the file.
            overlay: what the user set.
            registry: where a named template is looked up.
            folder: the model's folder, where its own template is.

        Raises:
            TemplateError: the template is unknown or malformed, or there is none.
            ConfigError: the file asks for what is not supported.
        """
        overlay = ChatConfig() if overlay is None else overlay.model_copy(deep=True)
        file = model.overlaid(overlay)
        if file.tensor_parallel_shards != 1 or file.pipeline_parallel_stages != 1:
            raise ConfigError(
                "The model is laid out for several devices (tensor_parallel_shards="
                f"{file.tensor_parallel_shards}, pipeline_parallel_stages="
                f"{file.pipeline_parallel_stages}); only 1 of each is supported.",
                code="model-sharded",
            )
        template = _template(file.conv_template, folder, registry)
        return cls(file, template.overlaid(overlay.conv_config), overlay)

    def reset(
        self,
        model: ModelFile,
        change: ChatConfig | ConvConfig,
        registry: Registry,
        folder: Path,
    ) -> ChatSettings:
        """Lay another overlay over a model's own file; what was settled at load stays as it is.

        Raises:
            TemplateError: the template is unknown or malformed.
            ConfigError: it changes what only a new ``ChatModule`` can change.
        """
        if isinstance(change, ConvConfig):
            change = ChatConfig(conv_config=change)
        if not isinstance(change, ChatConfig):
            raise ConfigError(
                f"A chat is reset to a ChatConfig or a ConvConfig, not {shown(change)}.",
                code="argument-mistyped",
            )
        wanted = change.overrides()
        for name in _SETTLED:
            here = getattr(self.overlay, name)
            if wanted.get(name) is not None and wanted[name] != here:
                raise ConfigError(
                    f"{name} is settled when a model is loaded (here: {shown(here)}); make a new "
                    "ChatModule for another one.",
                    code="setting-settled",
                )
        settled = {
            name: value for name in LOAD_TIME if (value := getattr(self.overlay, name)) is not None
        }
        return self.of(model, ChatConfig(**{**settled, **wanted}), registry, folder)

    def effective(self, model_lib: str) -> ChatConfig:
        """All fields as they are in force."""
        known = ChatConfig.model_fields.keys() & type(self.file).model_fields.keys()
        values: dict[str, Any] = {name: getattr(self.file, name) for name in known}
        values |= {k: v for k, v in self.overlay.overrides().items() if v is not None}
        threads = thread_count(self.file.num_threads).count
        return ChatConfig(**{**values, "model_lib": model_lib, "num_threads": threads})

    def sampling(self, generation: GenerationConfig) -> SamplingSettings:
        """How tokens are chosen."""
        values = {name: self._value(name, generation) for name in _SAMPLING}
        for name in ("top_k", "min_p", "logit_bias"):
            if (value := getattr(generation, name)) is not None:
                values[name] = value
        return SamplingSettings(**values)

    def max_tokens(self, generation: GenerationConfig) -> int:
        """Most tokens of an answer."""
        return int(self._value("max_gen_len", generation))

    def budget(self, generation: GenerationConfig, window: int) -> PromptBudget:
        """How much of a window of that many tokens a prompt may take."""
        fill = self.file.shift_fill_factor
        reserve = min(self._value(name, generation) for name in _LENGTHS)
        # A reserve beyond this would have turns dropped again at once.
        return PromptBudget(window, min(reserve, window - int(fill * window)), fill)

    def _value(self, name: str, generation: GenerationConfig) -> Any:
        given = getattr(generation, name)
        return getattr(self.file, name) if given is None else given


def _template(given: str | dict[str, Any] | None, folder: Path, registry: Registry) -> ChatTemplate:
    """The template that ``conv_template`` stands for.

    Raises:
        TemplateError: it is unknown or malformed, or there is none.
    """
    if isinstance(given, dict):
        return ConversationTemplate.from_data(given, "conv_template")
    if given is not None and given != NAME:
        return registry.template(given)
    return require_jinja_template(folder)
