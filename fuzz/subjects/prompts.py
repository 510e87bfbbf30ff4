"""Prompts, lists of messages, and the settings that Python programs give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.demo import TEMPLATE, demo
from mlc_llm import ChatConfig, GenerationConfig
from mlc_llm.errors import ConfigError
from mlc_llm.files import read_json_object

_MOST_ANSWERS, _MOST_TOKENS = 3, 6
"""Whoever asks for a billion tokens waits for them, which is not a finding."""

_PROMPTS: tuple[Any, ...] = (
    "Hello there",
    [{"role": "user", "content": "What is 1+1?"}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "abc", "token_ids": [5, 6]},
        {"role": "user", "content": "And now?", "name": "x"},
    ],
)
_GENERATION: dict[str, Any] = {
    "temperature": 0.8,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.01,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "mean_gen_len": 5,
    "max_gen_len": 3,
    "stop": ["x", "\n"],
    "seed": 7,
    "logit_bias": {"5": 10, "6": -100},
    "logprobs": 2,
}


def _object(path: Path) -> dict[str, Any]:
    return read_json_object(path, ConfigError)


class Prompts(Subject):
    """A prompt is shown as the model would be given it, and then answered."""

    name = "prompt"
    share = 1.5

    def seeds(self) -> list[Case]:
        continued = [*_PROMPTS[1], {"role": "assistant", "content": "It is"}]
        given = [(prompt, fields) for prompt in _PROMPTS for fields in ({}, _GENERATION)]
        given += [(continued, {"continue_final_message": True}), ("Hi", {"n": 2, "stop": "."})]
        return [
            {"prompt.json": json_bytes({"prompt": prompt}), "generation.json": json_bytes(fields)}
            for prompt, fields in given
        ]

    def feed(self, folder: Path) -> None:
        prompt: Any = _object(folder / "prompt.json").get("prompt")
        generation = GenerationConfig(**_object(folder / "generation.json"))
        generation.n = min(generation.n or 1, _MOST_ANSWERS)
        generation.max_gen_len = min(generation.max_gen_len or 1, _MOST_TOKENS)
        chat = demo()
        rendered = chat.render(prompt, generation)
        assert rendered.token_ids
        rendered.text.encode("utf-8")
        chat.generate(prompt, generation, stateless=len(chat.messages) > 8)
        for result in chat.results:
            result.text.encode("utf-8")


class Settings(Subject):
    """A chat is reset to other settings."""

    name = "settings"

    def seeds(self) -> list[Case]:
        fields: dict[str, Any] = {
            "local_id": "mine",
            "conv_template": TEMPLATE,
            "temperature": 0.5,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "repetition_penalty": 1.1,
            "top_p": 0.5,
            "mean_gen_len": 10,
            "max_gen_len": 20,
            "shift_fill_factor": 0.25,
            "tokenizer_files": ["tokenizer.model"],
            "conv_config": {"system_message": "Be kind.", "stop_str": "!", "seps": ["; "]},
            "context_window_size": 128,
            "prefill_chunk_size": 64,
            "max_batch_size": 2,
        }
        return [{"chat.json": json_bytes(fields)}, {"chat.json": json_bytes({"top_p": 1})}]

    def feed(self, folder: Path) -> None:
        chat = demo()
        chat.reset_chat(ChatConfig(**_object(folder / "chat.json")))
        json.dumps(chat.chat_config.model_dump(mode="json"))
        chat.render("Hello")
