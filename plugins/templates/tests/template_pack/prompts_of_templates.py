"""Prompts of models that publish a chat template: what it makes of messages, BOS included."""

from __future__ import annotations

from .prompt import HISTORY, SYSTEM, USER, WITH_SYSTEM, Prompt, blocks, chatml

DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
LLAMA_DEFAULT = "You are a helpful, respectful and honest assistant."


def _llama_3(*messages: tuple[str, str]) -> str:
    turns = blocks("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>", *messages)
    return f"<|begin_of_text|>{turns}<|start_header_id|>assistant<|end_header_id|>\n\n"


FROM_TEMPLATES = [
    # meta-llama/Meta-Llama-3-8B-Instruct, tokenizer_config.json
    Prompt("llama-3", None, 1, _llama_3(("user", USER))),
    Prompt("llama-3", SYSTEM, 3, _llama_3(*WITH_SYSTEM)),
    Prompt("llama-3", "default", 1, None, _llama_3(("system", LLAMA_DEFAULT), ("user", USER))),
    # meta-llama/Llama-3.1-8B-Instruct, tokenizer_config.json
    Prompt(
        "llama-3_1",
        SYSTEM,
        3,
        _llama_3(("system", DATES + SYSTEM), *HISTORY),
        _llama_3(*WITH_SYSTEM),
    ),
    # meta-llama/Llama-2-7b-chat-hf, tokenizer_config.json; CodeLlama's is the same
    *(
        prompt
        for name in ("llama-2", "codellama_instruct")
        for prompt in (
            Prompt(name, None, 1, "<s>[INST] Hello [/INST]"),
            Prompt(
                name,
                SYSTEM,
                3,
                "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST] Hi there </s>"
                "<s>[INST] Who are you?\n🦙 [/INST]",
            ),
        )
    ),
    # mistralai/mistral-common, by the version of the format
    Prompt(
        "mistral_default",
        SYSTEM,
        3,
        "<s>[INST] Be brief.\n\nHello [/INST] Hi there</s>[INST] Who are you?\n🦙 [/INST]",
    ),
    Prompt("mistral_default", None, 1, "<s>[INST] Hello [/INST]"),
    Prompt(
        "mistral_v3",
        SYSTEM,
        3,
        "<s>[INST] Hello[/INST] Hi there</s>[INST] Be brief.\n\nWho are you?\n🦙[/INST]",
    ),
    Prompt(
        "mistral_v3_tekken",
        SYSTEM,
        3,
        "<s>[INST]Hello[/INST]Hi there</s>[INST]Be brief.\n\nWho are you?\n🦙[/INST]",
    ),
    Prompt(
        "mistral_v7",
        SYSTEM,
        3,
        "<s>[SYSTEM_PROMPT] Be brief.[/SYSTEM_PROMPT][INST] Hello[/INST] Hi there</s>"
        "[INST] Who are you?\n🦙[/INST]",
    ),
    *(
        Prompt(
            name,
            SYSTEM,
            3,
            "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hello[/INST]Hi there</s>"
            "[INST]Who are you?\n🦙[/INST]",
        )
        for name in ("ministral3", "ministral3_reasoning")
    ),
    # teknium/OpenHermes-2.5-Mistral-7B and mlabonne/NeuralHermes-2.5-Mistral-7B
    *(
        prompt
        for name in ("chatml", "open_hermes_mistral", "neural_hermes_mistral")
        for prompt in (
            Prompt(name, None, 1, chatml(("user", USER))),
            Prompt(name, SYSTEM, 3, chatml(*WITH_SYSTEM)),
        )
    ),
    Prompt("chatml_nosystem", None, 3, chatml(*HISTORY)),
    Prompt("chatml_nosystem", SYSTEM, 1, None, f"{SYSTEM}{chatml(('user', USER))}"),
    # Qwen/Qwen2-7B-Instruct and Qwen/Qwen3-8B, tokenizer_config.json
    Prompt(
        "qwen2",
        "default",
        1,
        chatml(("system", "You are a helpful assistant."), ("user", USER)),
    ),
    Prompt("qwen2", SYSTEM, 3, chatml(*WITH_SYSTEM)),
    Prompt("qwen3", None, 3, chatml(*HISTORY)),
    Prompt("qwen3_5", SYSTEM, 3, None, f"{chatml(*WITH_SYSTEM)}<think>\n"),
    Prompt("qwen3_5_nothink", None, 3, None, f"{chatml(*HISTORY)}<think>\n\n</think>\n\n"),
    # deepseek-ai/deepseek-llm-7b-chat and DeepSeek-V2-Chat, tokenizer_config.json
    *(
        Prompt(
            name,
            SYSTEM,
            3,
            "<｜begin▁of▁sentence｜>Be brief.\n\nUser: Hello\n\nAssistant: Hi there"
            "<｜end▁of▁sentence｜>User: Who are you?\n🦙\n\nAssistant:",
        )
        for name in ("deepseek", "deepseek_v2")
    ),
    # deepseek-ai/DeepSeek-V3 and deepseek-ai/DeepSeek-R1-Distill-Qwen-7B, tokenizer_config.json
    Prompt(
        "deepseek_v3",
        SYSTEM,
        3,
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hello<｜Assistant｜>Hi there"
        "<｜end▁of▁sentence｜><｜User｜>Who are you?\n🦙<｜Assistant｜>",
    ),
    *(
        Prompt(
            name,
            None,
            3,
            "<｜begin▁of▁sentence｜><｜User｜>Hello<｜Assistant｜>Hi there"
            "<｜end▁of▁sentence｜><｜User｜>Who are you?\n🦙<｜Assistant｜><think>\n",
        )
        for name in ("deepseek_r1_qwen", "deepseek_r1_llama")
    ),
    # google/gemma-3-1b-it, tokenizer_config.json; google/gemma-7b-it's refuses a system message
    *(
        prompt
        for name in ("gemma_instruction", "gemma3_instruction")
        for prompt in (
            Prompt(
                name,
                None,
                1,
                "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
            ),
            Prompt(
                name,
                SYSTEM,
                3,
                "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
                "<start_of_turn>model\nHi there<end_of_turn>\n"
                "<start_of_turn>user\nWho are you?\n🦙<end_of_turn>\n<start_of_turn>model\n",
            ),
        )
    ),
    # microsoft/Phi-3-small-8k-instruct, tokenizer_config.json: later ones leave BOS out
    *(
        Prompt(
            name,
            SYSTEM,
            3,
            "<s><|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi there"
            "<|end|>\n<|user|>\nWho are you?\n🦙<|end|>\n<|assistant|>\n",
        )
        for name in ("phi-3", "phi-3-vision")
    ),
    Prompt("phi-3", None, 1, "<s><|user|>\nHello<|end|>\n<|assistant|>\n"),
    # microsoft/phi-4, tokenizer_config.json
    Prompt(
        "phi-4",
        SYSTEM,
        3,
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Hi there<|im_end|>"
        "<|im_start|>user<|im_sep|>Who are you?\n🦙<|im_end|><|im_start|>assistant<|im_sep|>",
    ),
    # TinyLlama/TinyLlama-1.1B-Chat-v1.0 and stabilityai/stablelm-zephyr-3b, tokenizer_config.json
    *(
        Prompt(
            name,
            SYSTEM,
            3,
            f"<|system|>\nBe brief.{end}\n<|user|>\nHello{end}\n<|assistant|>\nHi there{end}\n"
            f"<|user|>\nWho are you?\n🦙{end}\n<|assistant|>\n",
        )
        for name, end in (
            ("tinyllama_v1_0", "</s>"),
            ("stablelm-3b", "<|endoftext|>"),
            ("stablelm-2", "<|endoftext|>"),
        )
    ),
    # allenai/OLMo-7B-Instruct-hf and OLMo-2-1124-7B-Instruct, tokenizer_config.json
    *(
        Prompt(
            name,
            SYSTEM,
            3,
            "<|endoftext|><|system|>\nBe brief.\n<|user|>\nHello\n<|assistant|>\nHi there"
            "<|endoftext|>\n<|user|>\nWho are you?\n🦙\n<|assistant|>\n",
        )
        for name in ("olmo", "olmo2")
    ),
    # CohereForAI/aya-23-8B, tokenizer_config.json
    Prompt(
        "aya-23",
        None,
        1,
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    # OrionStarAI/Orion-14B-Chat, tokenizer_config.json
    Prompt(
        "orion",
        None,
        3,
        "<s>Human: Hello\n\nAssistant: </s>Hi there</s>Human: Who are you?\n🦙\n\nAssistant: </s>",
    ),
]
