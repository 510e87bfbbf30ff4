"""A value for each field, and a model's file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import ModelFile
from mlc_llm.registry.registry import default_registry

TEMPLATE = {
    "name": "plain",
    "roles": {"user": "U", "assistant": "A"},
    "seps": ["\n"],
    "stop_str": ["U:"],
}
FILE: dict[str, Any] = {
    "model_type": "llama",
    "quantization": "q4f16_1",
    "model_config": {"hidden_size": 64},
    "vocab_size": 512,
    "context_window_size": 2048,
    "prefill_chunk_size": 1024,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.25,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "mean_gen_len": 100,
    "max_gen_len": 200,
    "shift_fill_factor": 0.4,
    "tokenizer_files": ["tokenizer.json"],
    "conv_template": TEMPLATE,
}

CHAT: dict[str, Any] = {
    "model_lib": "lib.so",
    "local_id": "mine",
    "conv_template": "llama-2",
    "temperature": 0.75,
    "presence_penalty": -1.0,
    "frequency_penalty": 1.0,
    "repetition_penalty": 1.25,
    "top_p": 0.5,
    "mean_gen_len": 10,
    "max_gen_len": 20,
    "shift_fill_factor": 0.25,
    "tokenizer_files": ["tokenizer.model"],
    "conv_config": ConvConfig(system_message="Be brief."),
    "model_category": "llama",
    "model_name": "Tiny",
    "tensor_parallel_shards": 1,
    "use_presharded_weights": False,
    "context_window_size": 512,
    "sliding_window_size": 256,
    "prefill_chunk_size": 128,
    "attention_sink_size": 4,
    "max_batch_size": 2,
    "num_threads": 3,
    "opt": "activations=a8",
    "deterministic": True,
}
CONV: dict[str, Any] = {
    "name": "other",
    "system_template": "<sys>{system_message}</sys>",
    "system_message": "Be kind.",
    "system_prefix_token_ids": [1],
    "add_role_after_system_message": False,
    "roles": {"user": "You"},
    "role_templates": {"user": "({user_message})"},
    "messages": [("user", "1+1?"), ("assistant", "2")],
    "seps": ["; ", "</s>"],
    "role_content_sep": "> ",
    "role_empty_sep": ">",
    "stop_str": ["!"],
    "stop_token_ids": [7],
    "function_string": "f",
    "use_function_calling": True,
    "strip_reasoning_in_history": True,
    "add_bos": True,
    "chat_template_kwargs": {},
    "offset": 0,
    "separator_style": 1,
}
GENERATION: dict[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.75,
    "frequency_penalty": -0.5,
    "mean_gen_len": 5,
    "max_gen_len": 6,
    "n": 2,
    "stop": ["."],
    "seed": 7,
    "logit_bias": {5: -100.0},
    "logprobs": 3,
    "continue_final_message": True,
}
OVERLAYS = [(ChatConfig, CHAT), (ConvConfig, CONV), (GenerationConfig, GENERATION)]


def model_file(**changes: Any) -> ModelFile:
    """A model's file with changes."""
    return ModelFile.model_validate(copy.deepcopy({**FILE, **changes}))


def written(folder: Path, **changes: Any) -> Path:
    """The same as a file in a folder."""
    path = folder / "mlc-chat-config.json"
    path.write_text(json.dumps({**FILE, **changes}), encoding="utf-8")
    return path


def settings_of(overlay: ChatConfig | None = None, **changes: Any) -> ChatSettings:
    """What a chat goes by: a model's file with changes, and what is laid over it."""
    return ChatSettings.of(model_file(**changes), overlay, default_registry(), Path())
