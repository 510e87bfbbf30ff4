"""Models that were trained on Zephyr's layout: TinyLlama and StableLM's later ones.

Mended: a line end follows the end of every turn, as in the models' own templates, and a system
message of StableLM's stands in a turn of its own. Like theirs, these have no BOS.
"""

from __future__ import annotations

from typing import Any

_ROLES = {"user": "<|user|>", "assistant": "<|assistant|>"}

TINYLLAMA_V1_0: dict[str, Any] = {
    "name": "tinyllama_v1_0",
    "system_template": "<|system|>\n{system_message}</s>\n",
    "system_message": "You are a helpful chatbot.",
    "system_optional": True,
    "roles": _ROLES,
    "seps": ["</s>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

STABLELM_3B: dict[str, Any] = {
    "name": "stablelm-3b",
    "system_template": "<|system|>\n{system_message}<|endoftext|>\n",
    "system_message": "",
    "system_optional": True,
    "roles": _ROLES,
    "seps": ["<|endoftext|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|endoftext|>"],
    # <|endoftext|>
    "stop_token_ids": [0],
}

STABLELM_2 = {**STABLELM_3B, "name": "stablelm-2", "stop_token_ids": [100257]}
