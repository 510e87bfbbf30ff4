"""Prompts of models whose authors say on a card or in code what they are, BOS included."""

from __future__ import annotations

from .prompt import AGAIN, SYSTEM, USER, WITH_SYSTEM, Prompt, blocks, chatml

VICUNA_DEFAULT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
BELOW = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request."
)
RWKV_DEFAULT = (
    "Hi. I am your assistant and I will provide expert full response in full details. Please feel "
    "free to ask any question and I will always answer it."
)


def _llama_4(*messages: tuple[str, str]) -> str:
    turns = blocks("<|header_start|>", "<|header_end|>\n\n", "<|eot|>", *messages)
    return f"<|begin_of_text|>{turns}<|header_start|>assistant<|header_end|>\n\n"


FROM_CARDS = [
    # meta-llama/Llama-4-Scout-17B-16E-Instruct, model card
    Prompt("llama-4", None, 1, _llama_4(("user", USER))),
    Prompt("llama-4", SYSTEM, 3, _llama_4(*WITH_SYSTEM)),
    # NousResearch/Hermes-2-Pro-Llama-3-8B and Hermes-3-Llama-3.1-8B, model cards
    *(
        Prompt(name, SYSTEM, 3, f"<|begin_of_text|>{chatml(*WITH_SYSTEM)}")
        for name in ("hermes2_pro_llama3", "hermes3_llama-3_1")
    ),
    # microsoft/phi-2, model card
    Prompt(
        "phi-2", None, 3, "Instruct: Hello\nOutput: Hi there\nInstruct: Who are you?\n🦙\nOutput:"
    ),
    # microsoft/Phi-4-mini-instruct, model card
    Prompt(
        "phi-4-mini",
        SYSTEM,
        3,
        "<|system|>Be brief.<|end|><|user|>Hello<|end|><|assistant|>Hi there<|end|>"
        "<|user|>Who are you?\n🦙<|end|><|assistant|>",
    ),
    # stabilityai/stablelm-tuned-alpha-7b, model card
    Prompt(
        "stablelm",
        SYSTEM,
        3,
        "<|SYSTEM|>Be brief.\n<|USER|>Hello<|ASSISTANT|>Hi there"
        "<|USER|>Who are you?\n🦙<|ASSISTANT|>",
    ),
    # THUDM/chatglm3-6b, tokenization_chatglm.py
    Prompt(
        "glm",
        SYSTEM,
        3,
        "[gMASK]sop<|system|>\n Be brief.<|user|>\n Hello<|assistant|>\n Hi there"
        "<|user|>\n Who are you?\n🦙<|assistant|>",
    ),
    # nvidia/Nemotron-Mini-4B-Instruct, model card
    Prompt(
        "nemotron",
        SYSTEM,
        1,
        "<s><extra_id_0>System\nBe brief.\n\n<extra_id_1>User\nHello\n<extra_id_1>Assistant\n",
    ),
    Prompt(
        "nemotron",
        None,
        1,
        "<s><extra_id_0>System\n\n<extra_id_1>User\nHello\n<extra_id_1>Assistant\n",
        "<s><extra_id_0>System\n\n\n<extra_id_1>User\nHello\n<extra_id_1>Assistant\n",
    ),
    # OpenAssistant/oasst-sft-4-pythia-12b-epoch-3.5, model card
    Prompt(
        "oasst",
        None,
        3,
        "<|prompter|>Hello<|endoftext|><|assistant|>Hi there<|endoftext|>"
        "<|prompter|>Who are you?\n🦙<|endoftext|><|assistant|>",
    ),
    # togethercomputer/RedPajama-INCITE-Chat-3B-v1, model card
    Prompt(
        "redpajama_chat",
        None,
        3,
        "<human>: Hello\n<bot>: Hi there\n<human>: Who are you?\n🦙\n<bot>:",
    ),
    Prompt("redpajama_chat", SYSTEM, 1, None, "Be brief.<human>: Hello\n<bot>:"),
    # BlinkDL/ChatRWKV, API_DEMO_CHAT.py
    Prompt(
        "rwkv_world",
        "default",
        3,
        f"User: hi\n\nAssistant: {RWKV_DEFAULT}\n\nUser: Hello\n\nAssistant: Hi there\n\n"
        "User: Who are you?\n🦙\n\nAssistant:",
    ),
    # lm-sys/FastChat, conversation.py: ADD_COLON_TWO
    Prompt("vicuna_v1.1", "default", 1, f"<s>{VICUNA_DEFAULT} USER: Hello ASSISTANT:"),
    Prompt(
        "vicuna_v1.1",
        SYSTEM,
        3,
        "<s>Be brief. USER: Hello ASSISTANT: Hi there</s>USER: Who are you?\n🦙 ASSISTANT:",
    ),
    # llava-hf/llava-1.5-7b-hf, chat_template.json
    Prompt(
        "llava", None, 3, "<s>USER: Hello ASSISTANT: Hi there USER: Who are you?\n🦙 ASSISTANT:"
    ),
    # nlpxucan/WizardLM, demo/wizardmath_demo.py and the models' cards, which know one turn
    Prompt(
        "wizard_coder_or_math",
        "default",
        1,
        f"<s>{BELOW}\n\n### Instruction:\nHello\n\n### Response:",
    ),
    Prompt("wizardlm_7b", None, 1, "<s>Hello\n\n### Response:"),
    # databrickslabs/dolly, instruct_pipeline.py
    Prompt("dolly", "default", 1, f"{BELOW}\n\n### Instruction:\nHello\n\n### Response:\n"),
    # llm-jp/llm-jp-3-1.8b-instruct, model card
    Prompt(
        "llm-jp",
        "default",
        3,
        "<s>以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
        "\n\n### 指示:\nHello\n\n### 応答:\nHi there</s>"
        "\n\n### 指示:\nWho are you?\n🦙\n\n### 応答:\n",
    ),
    Prompt(
        "gorilla",
        SYSTEM,
        1,
        None,
        "<s>Be brief.USER: <<question>> Hello <<function>> \nASSISTANT:",
    ),
    # gorilla-llm/gorilla-openfunctions-v2, model card
    Prompt(
        "gorilla-openfunctions-v2",
        SYSTEM,
        1,
        "<｜begin▁of▁sentence｜>Be brief.\n### Instruction: <<function>>\n<<question>>Hello\n"
        "### Response: ",
    ),
    # Those that continue a text: the last message alone
    *(
        Prompt(name, "default", 3, f"{bos}{AGAIN}")
        for name, bos in (
            ("LM", "<s>"),
            ("codellama_completion", "<s>"),
            ("gpt2", ""),
            ("gpt_bigcode", ""),
        )
    ),
]
