"""Alpaca's conversation template: https://github.com/tatsu-lab/stanford_alpaca."""

TEMPLATE = {
    "name": "alpaca",
    "system_template": "{system_message}\n\n",
    "system_message": (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
    ),
    "roles": {"user": "### Instruction", "assistant": "### Response"},
    "role_content_sep": ":\n",
    "role_empty_sep": ":\n",
    "seps": ["\n\n"],
    "stop_str": ["### Instruction"],
    # Llama's own tokens: the prompt begins with BOS, and EOS ends an answer.
    "system_prefix_token_ids": [1],
    "stop_token_ids": [2],
}
