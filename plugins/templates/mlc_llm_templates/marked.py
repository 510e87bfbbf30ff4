"""Models with marks of turns of their own, one template each.

Mended: ``oasst`` and ``stablelm`` have nothing between a mark and the text after it, ``stablelm``
has a mark for the system message, ``orion`` has ``</s>`` before every answer, not only the next,
and ``rwkv_world`` an empty line after the system message and no space where the model writes.
``glm`` is ChatGLM3's own layout; MLC's was near that of ChatGLM2.
"""

from __future__ import annotations

from typing import Any

AYA_23: dict[str, Any] = {
    "name": "aya-23",
    "system_template": (
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>{system_message}<|END_OF_TURN_TOKEN|>"
    ),
    "system_message": (
        "You are Command-R, a brilliant, sophisticated, AI-assistant trained to assist human users "
        "by providing thorough responses."
    ),
    "system_optional": True,
    "add_bos": True,
    "roles": {
        "user": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
        "assistant": "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    },
    "seps": ["<|END_OF_TURN_TOKEN|>"],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["<|END_OF_TURN_TOKEN|>"],
    # <EOS_TOKEN>, <|END_OF_TURN_TOKEN|>
    "stop_token_ids": [6, 255001],
}

GLM: dict[str, Any] = {
    "name": "glm",
    "system_template": "<|system|>\n {system_message}",
    "system_message": "",
    "system_optional": True,
    # [gMASK], sop
    "system_prefix_token_ids": [64790, 64792],
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>", "tool": "<|observation|>"},
    "seps": [""],
    "role_content_sep": "\n ",
    "role_empty_sep": "",
    "stop_str": ["</s>", "<|user|>"],
    # </s>, <|user|>, <|observation|>
    "stop_token_ids": [2, 64795, 64797],
}

NEMOTRON: dict[str, Any] = {
    "name": "nemotron",
    "system_template": "<extra_id_0>System\n{system_message}\n\n",
    "system_message": "",
    "add_bos": True,
    "roles": {
        "user": "<extra_id_1>User",
        "assistant": "<extra_id_1>Assistant",
        "tool": "<extra_id_1>Tool",
    },
    "seps": ["\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["</s>"],
    "stop_token_ids": [3],
}

OASST: dict[str, Any] = {
    "name": "oasst",
    "system_template": "{system_message}",
    "system_message": "",
    "roles": {"user": "<|prompter|>", "assistant": "<|assistant|>"},
    "seps": ["<|endoftext|>"],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["<|endoftext|>"],
    "stop_token_ids": [2],
}

ORION: dict[str, Any] = {
    "name": "orion",
    "system_template": "{system_message}",
    "system_message": "",
    "add_bos": True,
    "roles": {"user": "Human: ", "assistant": "Assistant: </s>"},
    "seps": ["\n\n", "</s>"],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

REDPAJAMA_CHAT: dict[str, Any] = {
    "name": "redpajama_chat",
    "system_template": "{system_message}",
    "system_message": "",
    "roles": {"user": "<human>", "assistant": "<bot>"},
    "seps": ["\n"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["<human>"],
    # <|endoftext|>
    "stop_token_ids": [0],
}

RWKV_WORLD: dict[str, Any] = {
    "name": "rwkv_world",
    "system_template": "User: hi\n\nAssistant: {system_message}\n\n",
    "system_message": (
        "Hi. I am your assistant and I will provide expert full response in full details. Please "
        "feel free to ask any question and I will always answer it."
    ),
    "system_optional": True,
    "roles": {"user": "User", "assistant": "Assistant"},
    "seps": ["\n\n"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["\n\n"],
    "stop_token_ids": [0],
}

STABLELM: dict[str, Any] = {
    "name": "stablelm",
    "system_template": "<|SYSTEM|>{system_message}\n",
    "system_message": (
        "# StableLM Tuned (Alpha version)\n"
        "- StableLM is a helpful and harmless open-source AI language model developed by "
        "StabilityAI.\n"
        "- StableLM is excited to be able to help the user, but will refuse to do anything that "
        "could be considered harmful to the user.\n"
        "- StableLM is more than just an information source, StableLM is also able to write "
        "poetry, short stories, and make jokes.\n"
        "- StableLM will refuse to participate in anything that could harm a human."
    ),
    "system_optional": True,
    "roles": {"user": "<|USER|>", "assistant": "<|ASSISTANT|>"},
    "seps": [""],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": [],
    # <|USER|>, <|ASSISTANT|>, <|SYSTEM|>, <|padding|>, <|endoftext|>
    "stop_token_ids": [50278, 50279, 50277, 1, 0],
}
