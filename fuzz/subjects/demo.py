"""The small model that is part of the package, loaded once a process."""

from __future__ import annotations

import functools

from mlc_llm import ChatConfig, ChatModule

TEMPLATE = {
    "name": "plain",
    "system_template": "{system_message}\n",
    "system_message": "Be brief.",
    "roles": {"user": "User", "assistant": "Bot"},
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "seps": ["\n"],
}


@functools.cache
def demo() -> ChatModule:
    """A greedy chat with memory, whose window is short."""
    return ChatModule(
        "demo",
        "cpu",
        ChatConfig(
            conv_template=TEMPLATE,
            context_window_size=256,
            num_threads=1,
            temperature=0.0,
            max_gen_len=4,
        ),
    )
