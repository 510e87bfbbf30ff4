"""The prompts, as text and as token ids, beside those of the models' own templates.

The official prompts were derived from the templates that the models' authors publish (named with
each), for the messages below. Where MLC's prompt differs, both are written down.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
import tokenizers
from hypothesis import strategies as st

from mlc_llm import ConvConfig
from mlc_llm.conversation import Conversation
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer, load_tokenizer
from mlc_llm.tokenizer.template_ids import prefix_ids

SYSTEM = "Be brief."
USER, ANSWER, AGAIN = "Hello", "Hi there", "Who are you?\n🦙"
TURNS = [
    {"role": "user", "content": USER},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": AGAIN},
]

SPECIALS: dict[str, dict[str, int]] = {
    "llama-3": {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eom_id|>": 128008,
        "<|eot_id|>": 128009,
    },
    "chatml": {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2},
    "qwen2": {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645},
    "gemma": {"<eos>": 1, "<bos>": 2, "<start_of_turn>": 106, "<end_of_turn>": 107},
    "phi-3": {
        "<s>": 1,
        "<|endoftext|>": 32000,
        "<|assistant|>": 32001,
        "<|system|>": 32006,
        "<|end|>": 32007,
        "<|user|>": 32010,
    },
    "llama-2": {"<s>": 1, "</s>": 2},
    "gpt-neox": {"<|endoftext|>": 0},
}
"""The special tokens of the families' tokenizers, with their ids."""

BOS = {
    "llama-3": "<|begin_of_text|>",
    "gemma": "<bos>",
    "phi-3": "<s>",
    "llama-2": "<s>",
    "gpt-neox": "<|endoftext|>",
}
"""What the families' ``tokenizer_config.json`` calls ``bos_token``; chatml's and qwen2's: none."""

TAKES_WHITE_SPACE = {"<|assistant|>", "<|system|>", "<|end|>", "<|user|>"}
"""Phi-3's tokens that are added with ``rstrip``."""

FAMILY = {
    "chatml": "chatml",
    "codellama_completion": "llama-2",
    "codellama_instruct": "llama-2",
    "gemma_instruction": "gemma",
    "llama-2": "llama-2",
    "llama-3": "llama-3",
    "llama-3_1": "llama-3",
    "LM": "llama-2",
    "mistral_default": "llama-2",
    "phi-3": "phi-3",
    "qwen2": "qwen2",
    "redpajama_chat": "gpt-neox",
    "tinyllama_v1_0": "llama-2",
    "vicuna_v1.1": "llama-2",
    "wizard_coder_or_math": "llama-2",
}

FIRST_BYTE = 200_000
"""Token ids of bytes, out of the way of the special tokens."""


class Prompt(NamedTuple):
    """A template's prompt beside the official one, BOS included.

    Args:
        template: the template's name.
        system: the system message: its text, None for none, or "default" for the template's own.
        turns: how many of ``TURNS``.
        official: what the model's own template makes of the same messages; None when it refuses.
        ours: the prompt here, where it differs.
    """

    template: str
    system: str | None
    turns: int
    official: str | None
    ours: str | None = None


LLAMA_3_DEFAULT = "You are a helpful, respectful and honest assistant."
VICUNA_DEFAULT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
WIZARD_DEFAULT = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request."
)


def _llama_3(*messages: tuple[str, str]) -> str:
    """Llama-3's layout, of which its prompts are long."""
    blocks = [
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in messages
    ]
    return f"<|begin_of_text|>{''.join(blocks)}<|start_header_id|>assistant<|end_header_id|>\n\n"


HISTORY = [("user", USER), ("assistant", ANSWER), ("user", AGAIN)]
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

PROMPTS = [
    # meta-llama/Meta-Llama-3-8B-Instruct, tokenizer_config.json
    Prompt("llama-3", None, 1, _llama_3(("user", USER))),
    Prompt("llama-3", SYSTEM, 1, _llama_3(("system", SYSTEM), ("user", USER))),
    Prompt("llama-3", SYSTEM, 3, _llama_3(("system", SYSTEM), *HISTORY)),
    Prompt("llama-3", "default", 1, None, _llama_3(("system", LLAMA_3_DEFAULT), ("user", USER))),
    # meta-llama/Llama-3.1-8B-Instruct, tokenizer_config.json
    Prompt(
        "llama-3_1",
        None,
        1,
        _llama_3(("system", DATES), ("user", USER)),
        _llama_3(("user", USER)),
    ),
    Prompt(
        "llama-3_1",
        SYSTEM,
        3,
        _llama_3(("system", DATES + SYSTEM), *HISTORY),
        _llama_3(("system", SYSTEM), *HISTORY),
    ),
    # teknium/OpenHermes-2.5-Mistral-7B, tokenizer_config.json
    Prompt("chatml", None, 1, "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
    Prompt(
        "chatml",
        SYSTEM,
        3,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi there<|im_end|>\n"
        "<|im_start|>user\nWho are you?\n🦙<|im_end|>\n<|im_start|>assistant\n",
    ),
    # Qwen/Qwen2-7B-Instruct, tokenizer_config.json
    Prompt(
        "qwen2",
        "default",
        1,
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    ),
    Prompt(
        "qwen2",
        SYSTEM,
        3,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi there<|im_end|>\n"
        "<|im_start|>user\nWho are you?\n🦙<|im_end|>\n<|im_start|>assistant\n",
    ),
    # google/gemma-7b-it, tokenizer_config.json: it refuses a system message
    Prompt(
        "gemma_instruction",
        None,
        1,
        "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
    ),
    Prompt(
        "gemma_instruction",
        "default",
        3,
        "<bos><start_of_turn>user\nHello<end_of_turn>\n"
        "<start_of_turn>model\nHi there<end_of_turn>\n"
        "<start_of_turn>user\nWho are you?\n🦙<end_of_turn>\n<start_of_turn>model\n",
    ),
    Prompt(
        "gemma_instruction",
        SYSTEM,
        1,
        None,
        "<bos>Be brief.<start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
    ),
    # microsoft/Phi-3-small-8k-instruct and the first Phi-3-mini: later ones leave BOS out
    Prompt("phi-3", None, 1, "<s><|user|>\nHello<|end|>\n<|assistant|>\n"),
    Prompt(
        "phi-3",
        None,
        3,
        "<s><|user|>\nHello<|end|>\n<|assistant|>\nHi there<|end|>\n"
        "<|user|>\nWho are you?\n🦙<|end|>\n<|assistant|>\n",
    ),
    Prompt(
        "phi-3",
        SYSTEM,
        1,
        "<s><|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\n",
        "<s><|system|>\nBe brief.<|user|>\nHello<|end|>\n<|assistant|>\n",
    ),
    # TinyLlama/TinyLlama-1.1B-Chat-v1.0, tokenizer_config.json
    Prompt(
        "tinyllama_v1_0",
        None,
        1,
        "<|user|>\nHello</s>\n<|assistant|>\n",
        "<|user|>\nHello</s><|assistant|>\n",
    ),
    Prompt(
        "tinyllama_v1_0",
        SYSTEM,
        3,
        "<|system|>\nBe brief.</s>\n<|user|>\nHello</s>\n<|assistant|>\nHi there</s>\n"
        "<|user|>\nWho are you?\n🦙</s>\n<|assistant|>\n",
        "<|system|>\nBe brief.</s><|user|>\nHello</s><|assistant|>\nHi there</s>"
        "<|user|>\nWho are you?\n🦙</s><|assistant|>\n",
    ),
    # togethercomputer/RedPajama-INCITE-Chat-3B-v1, its model card
    Prompt("redpajama_chat", "default", 1, "<human>: Hello\n<bot>:"),
    Prompt(
        "redpajama_chat",
        None,
        3,
        "<human>: Hello\n<bot>: Hi there\n<human>: Who are you?\n🦙\n<bot>:",
    ),
    Prompt("redpajama_chat", SYSTEM, 1, None, "Be brief.<human>: Hello\n<bot>:"),
    # lm-sys/FastChat, conversation.py: ADD_COLON_TWO
    Prompt("vicuna_v1.1", "default", 1, f"<s>{VICUNA_DEFAULT} USER: Hello ASSISTANT:"),
    Prompt(
        "vicuna_v1.1",
        SYSTEM,
        3,
        "<s>Be brief. USER: Hello ASSISTANT: Hi there</s>USER: Who are you?\n🦙 ASSISTANT:",
    ),
    # codellama/CodeLlama-7b-Instruct-hf, tokenizer_config.json
    Prompt(
        "codellama_instruct",
        "default",
        1,
        "<s>[INST] Hello [/INST]",
        "<s>[INST] Hello [/INST] ",
    ),
    Prompt(
        "codellama_instruct",
        SYSTEM,
        3,
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST] Hi there </s>"
        "<s>[INST] Who are you?\n🦙 [/INST]",
        "<s>Be brief.[INST] Hello [/INST] Hi there [INST] Who are you?\n🦙 [/INST] ",
    ),
    # codellama/CodeLlama-7b-hf completes a text as it is; the last one of several, as MLC's does
    Prompt("codellama_completion", "default", 1, f"<s>{USER}"),
    Prompt("codellama_completion", SYSTEM, 3, None, f"<s>{AGAIN}"),
    # nlpxucan/WizardLM, demo/wizardmath_demo.py and WizardCoder's card, which know one turn
    Prompt(
        "wizard_coder_or_math",
        "default",
        1,
        f"<s>{WIZARD_DEFAULT}\n\n### Instruction:\nHello\n\n### Response:",
        f"<s>{WIZARD_DEFAULT}Instruction:\nHello\n\n### Response:\n",
    ),
    Prompt(
        "wizard_coder_or_math",
        SYSTEM,
        3,
        None,
        "<s>Be brief.Instruction:\nHello\n\n### Response:\nHi there\n\n### "
        "Instruction:\nWho are you?\n🦙\n\n### Response:\n",
    ),
]


def _template(name: str) -> ConversationTemplate:
    distribution = importlib.metadata.distribution("mlc-llm-templates")
    entry = distribution.entry_points.select(name=name)
    return ConversationTemplate.from_data(next(iter(entry)).load(), name)


def _with_system(name: str, system: str | None) -> ConversationTemplate:
    if system == "default":
        return _template(name)
    if system is None:
        return _template(name).overlaid(ConvConfig(system_template=""))
    return _template(name).overlaid(ConvConfig(system=system))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a tokenizer for each family: its special tokens, and a token for every byte."""
    made = {}
    for family, specials in SPECIALS.items():
        made[family] = tmp_path_factory.mktemp(family)
        data = json.dumps(_tokenizer_json(specials))
        (made[family] / "tokenizer.json").write_text(data, encoding="utf-8")
        if family in BOS:
            config = json.dumps({"bos_token": BOS[family]})
            (made[family] / "tokenizer_config.json").write_text(config, encoding="utf-8")
    return made


@pytest.fixture
def tokenizer_of(folders: dict[str, Path]) -> Any:
    """The tokenizer of a template's family."""
    return lambda template: _loaded(folders[FAMILY[template]])


@cache
def _loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def _tokenizer_json(specials: dict[str, int]) -> dict[str, Any]:
    """A byte-level ``tokenizer.json``, written by hand: the ids have gaps."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    added = [
        {
            "id": token_id,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": text in TAKES_WHITE_SPACE,
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
                **{symbol: FIRST_BYTE + rank for rank, symbol in enumerate(alphabet)},
            },
            "merges": [],
        },
    }


def _bos(template: ConversationTemplate, tokenizer: Tokenizer) -> str:
    """The text of the tokens that begin a template's prompts."""
    texts = {token_id: text for text, token_id in tokenizer.special_ids.items()}
    return "".join(texts[token_id] for token_id in prefix_ids(template, tokenizer))


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: f"{p.template}-{p.system}-{p.turns}")
class TestPrompts:
    def test_text(self, prompt: Prompt, tokenizer_of: Any) -> None:
        assert prompt.ours != prompt.official  # A difference is written down where there is one.
        tokenizer = tokenizer_of(prompt.template)
        template = _with_system(prompt.template, prompt.system)
        text = Conversation(template, tokenizer).prompt_text(TURNS[: prompt.turns])
        expected = prompt.official if prompt.ours is None else prompt.ours
        assert _bos(template, tokenizer) + text == expected

    def test_token_ids(self, prompt: Prompt, tokenizer_of: Any, folders: dict[str, Path]) -> None:
        """The ids are those that the ``tokenizers`` library gives for the text; BOS stands once."""
        library = tokenizers.Tokenizer.from_file(
            str(folders[FAMILY[prompt.template]] / "tokenizer.json")
        )
        text = prompt.official if prompt.ours is None else prompt.ours
        assert text is not None
        template = _with_system(prompt.template, prompt.system)
        tokenizer = tokenizer_of(prompt.template)
        ids = Conversation(template, tokenizer).prompt_ids(TURNS[: prompt.turns])
        assert ids == library.encode(text, add_special_tokens=False).ids
        prefix = prefix_ids(template, tokenizer)
        assert ids[: len(prefix)] == prefix
        assert all(ids.count(token_id) == 1 for token_id in prefix)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_a_system_message_among_the_messages(name: str, tokenizer_of: Any) -> None:
    tokenizer = tokenizer_of(name)
    set_before = Conversation(_with_system(name, SYSTEM), tokenizer)
    among = Conversation(_template(name), tokenizer)
    given = [{"role": "system", "content": SYSTEM}, *TURNS]
    assert among.prompt_ids(given) == set_before.prompt_ids(TURNS)


def test_every_template_has_a_prompt_here_or_is_tested_with_real_tokenizers() -> None:
    assert {prompt.template for prompt in PROMPTS} == FAMILY.keys() - {
        "LM",
        "llama-2",
        "mistral_default",
    }


@pytest.mark.parametrize("name", sorted(FAMILY))
@hypothesis.given(data=st.data())
def test_messages_cannot_hold_special_tokens(
    name: str, folders: dict[str, Path], data: st.DataObject
) -> None:
    """Whatever a message says, the special tokens of the prompt are those of the template."""
    tokenizer = _loaded(folders[FAMILY[name]])
    texts = st.sampled_from([*tokenizer.special_ids, "\n", " "])
    texts |= st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    content = data.draw(st.lists(texts, max_size=5).map("".join))
    template = _template(name).overlaid(ConvConfig(system=content))
    conversation = Conversation(template, tokenizer)
    ids = conversation.prompt_ids([{"role": "user", "content": content}])
    plain = Conversation(_with_system(name, "x"), tokenizer)
    specials = frozenset(tokenizer.special_ids.values())
    expected = plain.prompt_ids([{"role": "user", "content": "x"}])
    assert _only(ids, specials) == _only(expected, specials)


def _only(ids: Sequence[int], wanted: frozenset[int]) -> list[int]:
    return [token_id for token_id in ids if token_id in wanted]


class TestStops:
    @pytest.mark.parametrize("name", sorted(FAMILY))
    def test_stop_tokens_are_the_special_tokens_named(self, name: str, tokenizer_of: Any) -> None:
        template = _template(name)
        tokenizer = tokenizer_of(name)
        known = set(tokenizer.special_ids.values())
        # Phi-3 stops at </s>, too, which its tokenizer does not have as a special token.
        assert set(template.stop_token_ids) - known <= ({2} if name == "phi-3" else set())
        # A number that is an ordinary token here, or none that files mark, ends no answer.
        assert Conversation(template, tokenizer).stop_ids >= set(template.stop_token_ids) & known

    def test_chatml_stops_at_the_tokenizers_own_end_of_turn(self, tokenizer_of: Any) -> None:
        """The template's own stop token is that of other models, and a mark like any other here."""
        assert Conversation(_template("chatml"), tokenizer_of("qwen2")).stop_ids == {151645}

    def test_an_answer_ends_its_turn_with_the_stop_token(self, tokenizer_of: Any) -> None:
        """So the next prompt goes on where the answer ended: its tokens stay in the cache."""
        for name in ("llama-3", "llama-3_1", "chatml", "qwen2", "gemma_instruction", "phi-3"):
            tokenizer = tokenizer_of(name)
            conversation = Conversation(_template(name), tokenizer)
            conversation.append("user", USER)
            held = conversation.prompt_ids() + tokenizer.encode(ANSWER)
            conversation.append("assistant", ANSWER, tokenizer.encode(ANSWER))
            conversation.append("user", AGAIN)
            again = conversation.prompt_ids()
            assert again[: len(held)] == held
            assert again[len(held)] in conversation.stop_ids


class TestTools:
    CALL = '{"name": "add", "parameters": {"a": 1}}'

    def test_llama_3_1_has_a_role_for_tools(self, tokenizer_of: Any) -> None:
        """Meta's own template would write the tool's answer as JSON: ``"22"``."""
        messages = [
            {"role": "user", "content": "How warm?"},
            {"role": "assistant", "content": self.CALL},
            {"role": "tool", "content": "22"},
        ]
        conversation = Conversation(_with_system("llama-3_1", None), tokenizer_of("llama-3_1"))
        assert "<|begin_of_text|>" + conversation.prompt_text(messages) == _llama_3(
            ("user", "How warm?"), ("assistant", self.CALL), ("ipython", "22")
        )

    @pytest.mark.parametrize("name", ["llama-2", "mistral_default"])
    def test_llama_2_and_mistral_give_a_tools_answer_as_an_instruction(
        self, name: str, tokenizer_of: Any
    ) -> None:
        conversation = Conversation(_template(name), tokenizer_of(name))
        messages = [*TURNS[:2], {"role": "tool", "content": "22"}]
        assert "[INST] 22 [/INST]" in conversation.prompt_text(messages)

    @pytest.mark.parametrize(
        "name", sorted(FAMILY.keys() - {"llama-2", "llama-3_1", "mistral_default"})
    )
    def test_the_others_have_none(self, name: str, tokenizer_of: Any) -> None:
        conversation = Conversation(_template(name), tokenizer_of(name))
        with raises("role-unknown", "'tool'"):
            conversation.append("tool", "22")

    @pytest.mark.parametrize("name", sorted(FAMILY))
    def test_functions_stand_where_a_template_is_told_to_put_them(
        self, name: str, tokenizer_of: Any
    ) -> None:
        config = ConvConfig(
            role_templates={"user": "{user_message}\n{function_string}"},
            function_string=self.CALL,
            use_function_calling=True,
        )
        template = _template(name).overlaid(config)
        assert template.use_function_calling
        text = Conversation(template, tokenizer_of(name)).prompt_text(TURNS)
        assert f"{AGAIN}\n{self.CALL}" in text
        assert text.count(self.CALL) == 1


def test_wizards_official_prompt_is_one_override_away(tokenizer_of: Any) -> None:
    """As README says."""
    config = ConvConfig(system_template="{system_message}\n\n### ", role_empty_sep=":")
    template = _template("wizard_coder_or_math").overlaid(config)
    text = Conversation(template, tokenizer_of("wizard_coder_or_math")).prompt_text(TURNS[:1])
    assert text == f"{WIZARD_DEFAULT}\n\n### Instruction:\nHello\n\n### Response:"


def test_phi_3s_official_prompt_is_one_override_away(tokenizer_of: Any) -> None:
    """As README says."""
    config = ConvConfig(system_template="<|system|>\n{system_message}<|end|>\n", system=SYSTEM)
    template = _template("phi-3").overlaid(config)
    text = Conversation(template, tokenizer_of("phi-3")).prompt_text(TURNS[:1])
    assert f"<s>{text}" == next(
        prompt.official for prompt in PROMPTS if prompt[:3] == ("phi-3", SYSTEM, 1)
    )


def test_phi_3s_line_ends_are_no_tokens(tokenizer_of: Any) -> None:
    ids = Conversation(_with_system("phi-3", None), tokenizer_of("phi-3")).prompt_ids(
        [{"role": "user", "content": "  Hi  "}]
    )
    encode = tokenizer_of("phi-3").encode
    assert ids == [1, 32010, *encode("Hi  "), 32007, 32001]
