"""Which of the official prompts a template is compared with, and how.

The data (``templates/official_prompts.json``) holds what the models' own Jinja templates make of
six conversations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mlc_llm import ConvConfig
from mlc_llm.conversation import Conversation
from mlc_llm.testing.template import CharacterTokenizer

from .families import template

_LLAMA_CPP = "llama.cpp: "
_TEMPLATES = "llama.cpp templates: "
_CHUJIEZHENG = "chujiezheng: "
_MISTRAL = "mistral-common: "
_CONFIG = "tokenizer_config: "


NONE, OWN = "none", "MLC's"
ANOTHER = f"{OWN}, theirs has another"
"""What a template has where a conversation has no system message."""

TRIMS = "trims messages"
REASONING = "keeps the line ends after reasoning"
REFUSES = "refuses a system message"
LEAVES_OUT = "leaves a system message out"
"""What an official template does otherwise."""

_MEANS = {"edge spaces": TRIMS, "think": REASONING}
"""What it means that only the prompt of that conversation differs."""


class Official(NamedTuple):
    """An official template.

    Args:
        name: its name in the data.
        empty: texts of a prompt here that the data's template was given as empty: BOS, EOS.
        begin: what its prompts begin with that stands in the ids here, not in the text.
        after: marks that are followed by a space there, the one that SentencePiece puts after a
            special token, which stands in the ids here.
    """

    name: str
    empty: tuple[str, ...] = ()
    begin: str = ""
    after: tuple[str, ...] = ()


OFFICIAL: dict[str, Official] = {
    "aya-23": Official(_LLAMA_CPP + "CohereForAI/c4ai-command-r-plus"),
    "chatml": Official(_LLAMA_CPP + "teknium/OpenHermes-2.5-Mistral-7B"),
    "codellama_instruct": Official(_CHUJIEZHENG + "llama-2-chat", ("<s>", "</s>")),
    "deepseek": Official(_LLAMA_CPP + "DeepSeek-V2"),
    "deepseek_v2": Official(_LLAMA_CPP + "DeepSeek-V2"),
    "deepseek_v3": Official(_CONFIG + "deepseek_v3"),
    "deepseek_r1_llama": Official(_TEMPLATES + "deepseek-ai-DeepSeek-R1-Distill-Llama-8B"),
    "deepseek_r1_qwen": Official(_TEMPLATES + "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B"),
    "gemma_instruction": Official(_TEMPLATES + "google-gemma-2-2b-it"),
    "gemma3_instruction": Official(_CONFIG + "gemma3"),
    "glm": Official(_LLAMA_CPP + "ChatGLM3", begin="[gMASK]sop"),
    "llama-2": Official(_CHUJIEZHENG + "llama-2-chat", ("<s>", "</s>")),
    "llama-3": Official(_CONFIG + "llama3"),
    "llama-3_1": Official(_CONFIG + "llama3_1"),
    "ministral3": Official(_MISTRAL + "v13"),
    "ministral3_reasoning": Official(_MISTRAL + "v13"),
    "mistral_default": Official(_MISTRAL + "v1_spm", after=("<s>", "</s>")),
    "mistral_v3": Official(_MISTRAL + "v3_spm"),
    "mistral_v3_tekken": Official(_MISTRAL + "v3"),
    "mistral_v7": Official(_MISTRAL + "v7_spm"),
    "open_hermes_mistral": Official(_LLAMA_CPP + "teknium/OpenHermes-2.5-Mistral-7B"),
    "orion": Official(_LLAMA_CPP + "OrionStarAI/Orion-14B-Chat"),
    "phi-3": Official(_TEMPLATES + "microsoft-Phi-3.5-mini-instruct"),
    "phi-3-vision": Official(_LLAMA_CPP + "Phi-3-vision"),
    "phi-4": Official(_LLAMA_CPP + "phi-4"),
    "qwen2": Official(_TEMPLATES + "Qwen-Qwen2.5-7B-Instruct"),
    "qwen3": Official(_CONFIG + "qwen3"),
    "stablelm-2": Official(_CHUJIEZHENG + "zephyr", ("<|endoftext|>",)),
    "stablelm-3b": Official(_CHUJIEZHENG + "zephyr", ("<|endoftext|>",)),
    "tinyllama_v1_0": Official(_CHUJIEZHENG + "zephyr", ("</s>",)),
}
"""By the template's name. The others' own templates are not in the data."""

MORE: list[tuple[str, Official]] = [
    ("chatml", Official(_CONFIG + "smollm2")),
    ("gemma_instruction", Official(_CHUJIEZHENG + "gemma-it")),
    ("mistral_v3", Official(_MISTRAL + "v2_spm")),
    ("ministral3", Official(_MISTRAL + "v11")),
    ("phi-3", Official(_CONFIG + "phi3")),
]
"""Further ones, of other models that a template serves."""


class Comparison:
    """A template's prompts beside the official ones.

    Args:
        name: the template's name.
        official: which official template.
        data: the file's content.
    """

    def __init__(self, name: str, official: Official, data: Any) -> None:
        self._name, self._official = name, official
        self._conversations = data["conversations"]
        self._prompts = data["prompts"][official.name]

    def theirs(self, conversation: str) -> str | None:
        """The official prompt, without BOS; None where the official template refuses."""
        text = self._prompts["rendered"][conversation]
        if not isinstance(text, str):
            return None
        text = text.removeprefix(self._official.begin)
        for mark in self._official.after:
            text = text.replace(mark + " ", mark)
        return text.removeprefix(self._prompts["bos_token"])

    def ours(self, conversation: str, system: str | None = None) -> str:
        """The prompt here, without BOS.

        Args:
            conversation: its name in the data.
            system: the default system message; None for the template's own.
        """
        chosen = template(self._name).overlaid(ConvConfig(system_message=system))
        messages = self._conversations[conversation]
        text = Conversation(chosen, CharacterTokenizer()).prompt_text(messages)
        for empty in self._official.empty:
            text = text.replace(empty, "")
        return text.removeprefix(self._prompts["bos_token"])

    def default(self) -> str:
        """What stands where a conversation has no system message, here and there."""
        theirs = self.theirs("user")
        if theirs == self.ours("user"):
            return "as theirs" if template(self._name).system_message else NONE
        if theirs == self.ours("user", system=""):
            return f"{OWN}, theirs has none"
        return ANOTHER

    def differences(self) -> set[str]:
        """How the official prompts differ, the default system message left aside.

        Raises:
            AssertionError: in a way that is not known.
        """
        found = set()
        for name, messages in self._conversations.items():
            system = [message for message in messages if message["role"] == "system"]
            theirs = self.theirs(name)
            if theirs == self.ours(name, system="") or not (system or self.default() != ANOTHER):
                continue
            if theirs is None:
                found.add(REFUSES)
            elif system and system[0]["content"] not in theirs:
                found.add(LEAVES_OUT)
            else:
                assert name in _MEANS, f"{self._name}: {name}: {theirs!r}"
                found.add(_MEANS[name])
        return found
