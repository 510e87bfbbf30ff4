"""Tokenizers with the special tokens of each family of models, and which templates are for it."""

from __future__ import annotations

import importlib.metadata
import json
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from mlc_llm import ConvConfig
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.tokenizer import Tokenizer, load_tokenizer
from mlc_llm.tokenizer.template_ids import prefix_ids

GROUP = "mlc_llm.conversation_templates"

SPECIALS: dict[str, dict[str, int]] = {
    "llama-2": {"<s>": 1, "</s>": 2},
    "llama-3": {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eom_id|>": 128008,
        "<|eot_id|>": 128009,
    },
    "llama-4": {
        "<|begin_of_text|>": 200000,
        "<|end_of_text|>": 200001,
        "<|header_start|>": 200005,
        "<|header_end|>": 200006,
        "<|eom|>": 200007,
        "<|eot|>": 200008,
    },
    "mistral-v3": {
        "<s>": 1,
        "</s>": 2,
        "[INST]": 3,
        "[/INST]": 4,
        "[TOOL_RESULTS]": 8,
        "[/TOOL_RESULTS]": 9,
        "[SYSTEM_PROMPT]": 17,
        "[/SYSTEM_PROMPT]": 18,
    },
    "chatml": {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2},
    "hermes-mistral": {"<s>": 1, "</s>": 2, "<|im_end|>": 32000, "<|im_start|>": 32001},
    "hermes-2": {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|im_start|>": 128002,
        "<|im_end|>": 128003,
        "<|eot_id|>": 128009,
    },
    "hermes-3": {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|eom_id|>": 128008,
        "<|eot_id|>": 128009,
        "<|im_start|>": 128039,
        "<|im_end|>": 128040,
    },
    "qwen2": {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645},
    "qwen3_5": {"<|endoftext|>": 248044, "<|im_start|>": 248045, "<|im_end|>": 248046},
    "deepseek": {
        "<｜begin▁of▁sentence｜>": 100000,
        "<｜end▁of▁sentence｜>": 100001,
        "<|EOT|>": 100015,
    },
    "deepseek-v3": {
        "<｜begin▁of▁sentence｜>": 0,
        "<｜end▁of▁sentence｜>": 1,
        "<｜User｜>": 128803,
        "<｜Assistant｜>": 128804,
    },
    "r1-qwen": {
        "<｜end▁of▁sentence｜>": 151643,
        "<｜User｜>": 151644,
        "<｜Assistant｜>": 151645,
        "<｜begin▁of▁sentence｜>": 151646,
    },
    "r1-llama": {
        "<｜begin▁of▁sentence｜>": 128000,
        "<｜end▁of▁sentence｜>": 128001,
        "<｜User｜>": 128011,
        "<｜Assistant｜>": 128012,
    },
    "gemma": {"<eos>": 1, "<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107},
    "gemma-3": {"<eos>": 1, "<bos>": 2, "<start_of_turn>": 105, "<end_of_turn>": 106},
    "phi-3": {
        "<s>": 1,
        "<|endoftext|>": 32000,
        "<|assistant|>": 32001,
        "<|system|>": 32006,
        "<|end|>": 32007,
        "<|user|>": 32010,
    },
    "phi-4": {
        "<|endoftext|>": 100257,
        "<|im_start|>": 100264,
        "<|im_end|>": 100265,
        "<|im_sep|>": 100266,
    },
    "phi-4-mini": {
        "<|endoftext|>": 199999,
        "<|assistant|>": 200019,
        "<|end|>": 200020,
        "<|user|>": 200021,
        "<|system|>": 200022,
    },
    "gpt-neox": {"<|endoftext|>": 0},
    "gpt2": {"<|endoftext|>": 50256},
    "stablelm": {
        "<|endoftext|>": 0,
        "<|padding|>": 1,
        "<|SYSTEM|>": 50277,
        "<|USER|>": 50278,
        "<|ASSISTANT|>": 50279,
    },
    "olmo": {"<|endoftext|>": 50279},
    "cl100k": {"<|endoftext|>": 100257},
    "oasst": {"<|endoftext|>": 0, "<|prompter|>": 50281, "<|assistant|>": 50282},
    "cohere": {
        "<BOS_TOKEN>": 5,
        "<EOS_TOKEN>": 6,
        "<|START_OF_TURN_TOKEN|>": 255000,
        "<|END_OF_TURN_TOKEN|>": 255001,
        "<|USER_TOKEN|>": 255006,
        "<|CHATBOT_TOKEN|>": 255007,
        "<|SYSTEM_TOKEN|>": 255008,
    },
    "chatglm": {
        "</s>": 2,
        "[gMASK]": 64790,
        "sop": 64792,
        "<|system|>": 64794,
        "<|user|>": 64795,
        "<|assistant|>": 64796,
        "<|observation|>": 64797,
    },
    "nemotron": {"<s>": 2, "</s>": 3, "<extra_id_0>": 4, "<extra_id_1>": 5},
}
"""The special tokens of the families' tokenizers, with their ids."""

BOS = {
    "llama-2": "<s>",
    "llama-3": "<|begin_of_text|>",
    "llama-4": "<|begin_of_text|>",
    "mistral-v3": "<s>",
    "hermes-mistral": "<s>",
    "hermes-2": "<|begin_of_text|>",
    "hermes-3": "<|begin_of_text|>",
    "deepseek": "<｜begin▁of▁sentence｜>",
    "deepseek-v3": "<｜begin▁of▁sentence｜>",
    "r1-qwen": "<｜begin▁of▁sentence｜>",
    "r1-llama": "<｜begin▁of▁sentence｜>",
    "gemma": "<bos>",
    "gemma-3": "<bos>",
    "phi-3": "<s>",
    "gpt-neox": "<|endoftext|>",
    "cl100k": "<|endoftext|>",
    "cohere": "<BOS_TOKEN>",
    "nemotron": "<s>",
}
"""What the families' ``tokenizer_config.json`` calls ``bos_token``; the others': none."""

TAKES_WHITE_SPACE = {"<|assistant|>", "<|system|>", "<|end|>", "<|user|>"}
"""Phi-3's tokens that are added with ``rstrip``."""

_TEMPLATES = {
    "llama-2": (
        "LM codellama_completion codellama_instruct gorilla llama-2 llava llm-jp mistral_default "
        "orion tinyllama_v1_0 vicuna_v1.1 wizard_coder_or_math wizardlm_7b"
    ),
    "llama-3": "llama-3 llama-3_1",
    "llama-4": "llama-4",
    "mistral-v3": "mistral_v3 mistral_v3_tekken mistral_v7 ministral3 ministral3_reasoning",
    "chatml": "chatml chatml_nosystem",
    "hermes-mistral": "open_hermes_mistral neural_hermes_mistral",
    "hermes-2": "hermes2_pro_llama3",
    "hermes-3": "hermes3_llama-3_1",
    "qwen2": "qwen2 qwen3",
    "qwen3_5": "qwen3_5 qwen3_5_nothink",
    "deepseek": "deepseek deepseek_v2 gorilla-openfunctions-v2",
    "deepseek-v3": "deepseek_v3",
    "r1-qwen": "deepseek_r1_qwen",
    "r1-llama": "deepseek_r1_llama",
    "gemma": "gemma_instruction",
    "gemma-3": "gemma3_instruction",
    "phi-3": "phi-3 phi-3-vision",
    "phi-4": "phi-4",
    "phi-4-mini": "phi-4-mini",
    "gpt-neox": "gpt_bigcode redpajama_chat rwkv_world stablelm-3b",
    "gpt2": "dolly gpt2 phi-2",
    "stablelm": "stablelm",
    "olmo": "olmo",
    "cl100k": "olmo2 stablelm-2",
    "oasst": "oasst",
    "cohere": "aya-23",
    "chatglm": "glm",
    "nemotron": "nemotron",
}
FAMILY = {name: family for family, names in _TEMPLATES.items() for name in names.split()}

_FIRST_BYTE = 300_000
"""Token ids of bytes, out of the way of the special tokens."""


def entries() -> dict[str, importlib.metadata.EntryPoint]:
    """The distribution's entry points, by the templates' names."""
    distribution = importlib.metadata.distribution("mlc-llm-templates")
    return {entry.name: entry for entry in distribution.entry_points if entry.group == GROUP}


@cache
def template(name: str) -> ConversationTemplate:
    """A template of the pack."""
    return ConversationTemplate.from_data(entries()[name].load(), name)


def with_system(name: str, system: str | None) -> ConversationTemplate:
    """A template with a system message: its text, None for none, "default" for its own."""
    if system == "default":
        return template(name)
    return template(name).overlaid(ConvConfig(system=system or ""))


@cache
def loaded(folder: Path) -> Tokenizer:
    """The tokenizer in a folder."""
    return load_tokenizer(folder)


def write_tokenizer(folder: Path, family: str) -> None:
    """Write a family's tokenizer: its special tokens, and a token for every byte."""
    data = json.dumps(_tokenizer_json(family))
    (folder / "tokenizer.json").write_text(data, encoding="utf-8")
    if family in BOS:
        config = json.dumps({"bos_token": BOS[family]})
        (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")


def bos(template: ConversationTemplate, tokenizer: Tokenizer) -> str:
    """The text of the tokens that begin a template's prompts."""
    texts = {token_id: text for text, token_id in tokenizer.special_ids.items()}
    return "".join(texts[token_id] for token_id in prefix_ids(template, tokenizer))


def _tokenizer_json(family: str) -> dict[str, Any]:
    """A byte-level ``tokenizer.json``, written by hand: the ids have gaps."""
    specials = SPECIALS[family]
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    added = [
        {
            "id": token_id,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": family == "phi-3" and text in TAKES_WHITE_SPACE,
            "normalized": False,
            "special": True,
        }
        for text, token_id in specials.items()
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: int(str(token["id"]))),
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {
                **specials,
                **{symbol: _FIRST_BYTE + rank for rank, symbol in enumerate(alphabet)},
            },
            "merges": [],
        },
    }
