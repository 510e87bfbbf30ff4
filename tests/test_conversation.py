"""Conversations: the layout of MLC's protocol, the token ids of the models' own tokenizers."""

from __future__ import annotations

import types
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.config import ConvConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError, TokenizerError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Detokenizer, Tokenizer, load_tokenizer

TURNS = [
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi! How are you?"},
    {"role": "user", "content": "Fine.\nAnd you? 🦙"},
]
CHATML = {
    "name": "chatml",
    "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": "Be brief.",
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "seps": ["<|im_end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|im_end|>"],
    "stop_token_ids": [0],
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@cache
def _loaded(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="session")
def llama_2(test_data: Path) -> Tokenizer:
    return _loaded(test_data / "tokenizers" / "llama-2")


@pytest.fixture(scope="session")
def llama_2_model(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same from ``tokenizer.model``."""
    folder = tmp_path_factory.mktemp("llama-2")
    data = (test_data / "tokenizers" / "llama-2" / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(data)
    return _loaded(folder)


@pytest.fixture(scope="session")
def smollm2(test_data: Path) -> Tokenizer:
    return _loaded(test_data / "tokenizers" / "smollm2-135m-instruct")


def _template(name: str = "llama-2", config: ConvConfig | None = None) -> ConversationTemplate:
    return default_registry().template(name).overlaid(config)


def _chatml(**changes: Any) -> ConversationTemplate:
    return ConversationTemplate.from_data({**CHATML, **changes}, "chatml")


def _as_mlc_does(template: ConversationTemplate, messages: list[dict[str, str]]) -> str:
    """MLC's layout, written down a second time: text only, the prompt's end included."""
    system = template.system_template.replace("{system_message}", template.system_message)
    text = system
    for index, message in enumerate(messages):
        role = message["role"]
        skip = index == 0 and system != "" and not template.add_role_after_system_message
        text += "" if skip else template.roles[role] + template.role_content_sep
        around = template.role_templates[role]
        text += around.replace(f"{{{role}_message}}", message["content"])
        text += (template.seps * 2)[role == "assistant"]
    return text + template.roles["assistant"] + template.role_empty_sep


class TestLayout:
    @pytest.mark.parametrize("name", ["llama-2", "mistral_default"])
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_text_is_laid_out_as_mlc_does(self, name: str, count: int, llama_2: Tokenizer) -> None:
        template = _template(name)
        text = Conversation(template, llama_2).prompt_text(TURNS[:count])
        assert text == _as_mlc_does(template, TURNS[:count])

    def test_llama_2(self, llama_2: Tokenizer) -> None:
        template = _template(config=ConvConfig(system_message="S"))
        assert Conversation(template, llama_2).prompt_text(TURNS) == (
            "[INST] <<SYS>>\nS\n<</SYS>>\n\nHello there [/INST] Hi! How are you? </s>"
            "<s>[INST] Fine.\nAnd you? 🦙 [/INST]"
        )

    def test_mistral(self, llama_2: Tokenizer) -> None:
        template = _template("mistral_default", ConvConfig(system_message="S"))
        assert Conversation(template, llama_2).prompt_text(TURNS) == (
            "[INST] S\n\nHello there [/INST] Hi! How are you?</s>[INST] Fine.\nAnd you? 🦙 [/INST]"
        )

    def test_lm_is_the_last_prompt_alone(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template("LM", ConvConfig(system_message="no")), llama_2)
        messages = [{"role": "system", "content": "no"}, *TURNS]
        assert conversation.prompt_text(messages) == TURNS[-1]["content"]
        assert conversation.prompt_ids(messages) == [1, *llama_2.encode(TURNS[-1]["content"])]

    def test_system_messages_replace_the_templates_own(self, smollm2: Tokenizer) -> None:
        system = [{"role": "system", "content": "One."}, {"role": "system", "content": "Two."}]
        text = Conversation(_chatml(), smollm2).prompt_text([*system, TURNS[0]])
        assert text == (
            "<|im_start|>system\nOne.\n\nTwo.<|im_end|>\n"
            "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"
        )

    def test_no_system_text_no_system_message(self, smollm2: Tokenizer) -> None:
        template = _chatml(system_template="{system_message}", system_message="")
        text = Conversation(template, smollm2).prompt_text(TURNS[:1])
        assert text == "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"

    @pytest.mark.parametrize("optional", [False, True])
    def test_an_empty_system_message(self, optional: bool, smollm2: Tokenizer) -> None:
        template = _chatml(system_optional=optional, system_message="")
        text = Conversation(template, smollm2).prompt_text(TURNS[:1])
        marks = "" if optional else "<|im_start|>system\n<|im_end|>\n"
        assert text == f"{marks}<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"

    def test_a_system_message_in_the_last_turn(self, smollm2: Tokenizer) -> None:
        template = _chatml(
            system_in_last_turn=True,
            system_template="{system_message}\n\n",
            system_message="S",
            add_role_after_system_message=False,
            messages=[("user", "1+1?"), ("assistant", "2")],
        )
        conversation = Conversation(template, smollm2)
        for count in (1, 3):
            begin, found, end = conversation.prompt_text(TURNS[:count]).partition("S\n\n")
            assert found
            assert begin.endswith("<|im_start|>user\n")
            assert end == f"{TURNS[count - 1]['content']}<|im_end|>\n<|im_start|>assistant\n"
        going_on = [*TURNS[:2], {"role": "assistant", "content": "And"}]
        text = conversation.prompt_text(going_on, continues=True)
        assert "<|im_start|>user\nS\n\nHello there<|im_end|>" in text

    def test_preset_messages_and_role_templates(self, smollm2: Tokenizer) -> None:
        template = _chatml(
            messages=[("user", "1+1?"), ("assistant", "2")],
            role_templates={"user": "Q: {user_message} ({user_message})"},
            system_template="",
        )
        conversation = Conversation(template, smollm2)
        conversation.append("user", "{user_message}?")
        assert conversation.prompt_text() == (
            "<|im_start|>user\nQ: 1+1? (1+1?)<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
            "<|im_start|>user\nQ: {user_message}? ({user_message}?)<|im_end|>\n"
            "<|im_start|>assistant\n"
        )

    def test_functions_stand_where_they_were_last_asked_for(self, smollm2: Tokenizer) -> None:
        template = _chatml(
            system_template="",
            role_templates={"user": "{user_message}|{function_string}|"},
            function_string='{"f": 1}',
        )
        messages = [{"role": "user", "content": "{function_string}"}, *TURNS[1:]]
        assert Conversation(template, smollm2).prompt_text(messages) == (
            "<|im_start|>user\n{function_string}||<|im_end|>\n"
            "<|im_start|>assistant\nHi! How are you?<|im_end|>\n"
            '<|im_start|>user\nFine.\nAnd you? 🦙|{"f": 1}|<|im_end|>\n<|im_start|>assistant\n'
        )

    def test_reasoning_is_left_out_of_history(self, smollm2: Tokenizer) -> None:
        answer = "<think>\nHm.\n</think>\n\nYes."
        for keep in (True, False):
            template = _chatml(strip_reasoning_in_history=not keep, system_template="")
            conversation = Conversation(template, smollm2)
            conversation.append("user", "Really?")
            conversation.append("assistant", answer, smollm2.encode(answer))
            conversation.append("user", "Ok")
            shown = answer if keep else "Yes."
            assert f"assistant\n{shown}<|im_end|>" in conversation.prompt_text()


class TestTokens:
    @pytest.mark.parametrize("kind", ["llama_2", "llama_2_model"])
    def test_llama_2_equals_transformers(
        self, kind: str, test_data: Path, request: pytest.FixtureRequest
    ) -> None:
        reference = _transformers_llama_2(test_data)
        template = _template()
        conversation = Conversation(template, request.getfixturevalue(kind))
        text = _as_mlc_does(template, TURNS)
        expected = reference("<s>" + text, add_special_tokens=False).input_ids
        assert conversation.prompt_ids(TURNS) == expected

    def test_llama_2_equals_its_jinja_template(self, test_data: Path, llama_2: Tokenizer) -> None:
        reference = _transformers_llama_2(test_data)
        # Its authors say to take the indentation and the line ends out.
        path = test_data / "chat-templates" / "llama-2-chat.jinja"
        source = path.read_text().replace("    ", "").replace("\n", "")
        template = _template()
        messages = [{"role": "system", "content": template.system_message}, *TURNS]
        text = reference.apply_chat_template(messages, chat_template=source, tokenize=False)
        expected = reference(text, add_special_tokens=False).input_ids
        assert Conversation(template, llama_2).prompt_ids(TURNS) == expected

    def test_chatml_equals_the_tokenizers_library(
        self, test_data: Path, smollm2: Tokenizer
    ) -> None:
        import tokenizers

        path = test_data / "tokenizers" / "smollm2-135m-instruct" / "tokenizer.json"
        library = tokenizers.Tokenizer.from_file(str(path))
        conversation = Conversation(_chatml(), smollm2)
        expected = library.encode(_as_mlc_does(_chatml(), TURNS), add_special_tokens=False).ids
        assert conversation.prompt_ids(TURNS) == expected

    def test_mistral_v03_knows_its_instruction_tokens(self, test_data: Path) -> None:
        tokenizer = _loaded(test_data / "tokenizers" / "mistral-7b-instruct-v0.3")
        template = _template("mistral_default", ConvConfig(system_template=""))
        ids = Conversation(template, tokenizer).prompt_ids([{"role": "user", "content": "Hello"}])
        # <s> [INST] ▁Hello ▁ [/INST]
        assert ids == [1, 3, *tokenizer.encode(" Hello ", continues=True), 4]

    @hypothesis.given(st.lists(st.sampled_from(["<s>", "</s>", "[INST]", " "]) | TEXT, max_size=4))
    def test_special_tokens_in_messages_are_plain_text(
        self, llama_2: Tokenizer, llama_2_model: Tokenizer, parts: list[str]
    ) -> None:
        messages = [{"role": "user", "content": "".join(parts)}]
        for tokenizer in (llama_2, llama_2_model):
            ids = Conversation(_template(), tokenizer).prompt_ids(messages)
            assert ids.count(1) == 1
            assert 2 not in ids

    def test_function_and_system_text_is_plain_too(self, llama_2: Tokenizer) -> None:
        messages = [{"role": "system", "content": "</s><s>"}, *TURNS[:1]]
        ids = Conversation(_template(), llama_2).prompt_ids(messages)
        assert ids.count(1) == 1
        assert 2 not in ids


class TestBos:
    def test_once_though_both_prefix_and_role_have_it(self, llama_2: Tokenizer) -> None:
        template = _template(config=ConvConfig(system_template=""))
        conversation = Conversation(template, llama_2)
        ids = conversation.prompt_ids(TURNS[:1])
        assert ids == [1, *llama_2.encode("[INST] Hello there [/INST]")]
        assert conversation.prompt_ids(TURNS).count(1) == 2

    @pytest.mark.parametrize(
        ("add_bos", "prefix", "expected"),
        [
            (True, [1], [1]),
            (True, None, [1]),
            (True, [], [1]),
            (True, [5], [1, 5]),
            (None, None, []),
            (None, [1], [1]),
            (False, [1], []),
            (False, [5], [5]),
        ],
    )
    def test_add_bos(
        self,
        add_bos: bool | None,
        prefix: list[int] | None,
        expected: list[int],
        llama_2: Tokenizer,
    ) -> None:
        config = ConvConfig(add_bos=add_bos, system_prefix_token_ids=prefix)
        template = _template("LM").model_copy(
            update={"add_bos": None, "system_prefix_token_ids": None}
        )
        template = template.overlaid(config)
        ids = Conversation(template, llama_2).prompt_ids([{"role": "user", "content": "Hi"}])
        assert ids == [*expected, *llama_2.encode("Hi")]

    def test_add_bos_without_a_bos(self, llama_2_model: Tokenizer) -> None:
        template = _template("LM", ConvConfig(add_bos=True))
        with raises("template-mismatch", "add_bos"):
            Conversation(template, _without_bos(llama_2_model))


class TestHistory:
    def test_generated_tokens_enter_as_they_are(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        conversation.append("user", "Hello")
        first = conversation.prompt_ids()
        # Not how the tokenizer spells it: "▁Yes" would be one token.
        generated = [29871, *[3 + byte for byte in b"Yes"], 29991]
        conversation.append("assistant", llama_2.decode(generated), [*generated, 2])
        conversation.append("user", "Why?")
        second = conversation.prompt_ids()
        assert second[: len(first) + len(generated)] == first + generated
        rest = second[len(first) + len(generated) :]
        assert rest == [29871, 2, 1, *llama_2.encode("[INST] Why? [/INST]")]

    def test_an_answer_follows_what_it_was_generated_after(self, llama_2: Tokenizer) -> None:
        """Also where the template puts another separator between a role and its content."""
        conversation = Conversation(_template("mistral_default"), llama_2)
        conversation.append("user", "Hello")
        prompt = conversation.prompt_ids()
        generated = llama_2.encode("Hi there")
        conversation.append("assistant", "Hi there", generated)
        conversation.append("user", "Again")
        again = conversation.prompt_ids()
        assert again[: len(prompt) + len(generated)] == prompt + generated

    def test_tokens_after_the_content_are_left_out(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        answer, stop = llama_2.encode("Fine."), llama_2.encode(" [INST]", continues=True)
        conversation.append("assistant", "Fine.", [*answer, *stop])
        assert conversation.messages[-1].token_ids == tuple(answer)

    @pytest.mark.parametrize("content", ["Fin", "Fine. And more", "Other"])
    def test_tokens_that_do_not_spell_the_content_are_not_used(
        self, content: str, llama_2: Tokenizer
    ) -> None:
        conversation = Conversation(_template(), llama_2)
        conversation.append("assistant", content, llama_2.encode("Fine."))
        assert conversation.messages == (Message("assistant", content),)

    def test_an_answer_cut_inside_a_character(self, llama_2: Tokenizer) -> None:
        ids = [15043, 3 + 0xF0, 3 + 0x9F]
        conversation = Conversation(_template(), llama_2)
        conversation.append("assistant", llama_2.decode(ids), ids)
        assert conversation.messages[-1] == Message("assistant", "Hello\ufffd", tuple(ids))

    def test_an_earlier_history_can_be_restored(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        conversation.append("user", "One")
        earlier, ids = conversation.messages, conversation.prompt_ids()
        conversation.append("assistant", "Two")
        conversation.messages = earlier
        assert conversation.prompt_ids() == ids
        conversation.reset()
        assert conversation.messages == ()

    def test_asking_about_other_messages_leaves_the_history(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        conversation.append("user", "One")
        ids = conversation.prompt_ids()
        assert conversation.prompt_ids(TURNS) != ids
        assert conversation.prompt_ids() == ids
        assert conversation.prompt_ids(conversation.messages) == ids

    def test_a_long_chat_encodes_only_what_is_new(self, llama_2: Tokenizer) -> None:
        counting = _Counting(llama_2)
        conversation = Conversation(_template(), counting)
        for turn in range(20):
            conversation.append("user", f"Question {turn}")
            conversation.prompt_ids()
            assert counting.encoded <= 3
            counting.encoded = 0
            answer = llama_2.encode(f"Answer {turn}")
            conversation.append("assistant", llama_2.decode(answer), answer)


class TestStops:
    def test_of_the_template(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        assert conversation.stop_strings == ("[INST]",)
        assert conversation.stop_ids == {2}

    def test_a_stop_string_that_is_a_special_token(self, smollm2: Tokenizer) -> None:
        conversation = Conversation(_chatml(stop_str=["<|im_end|>", ""]), smollm2)
        assert conversation.stop_strings == ("<|im_end|>",)
        assert conversation.stop_ids == {0, 2}


class TestMessages:
    def test_objects_and_parts_of_text(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        expected = conversation.prompt_ids([{"role": "user", "content": "ab"}])
        parts = [{"type": "text", "text": "a"}, types.SimpleNamespace(type="text", text="b")]
        for message in (
            Message("user", "ab"),
            types.SimpleNamespace(role="user", content="ab"),
            {"role": "user", "content": parts, "name": "me"},
        ):
            assert conversation.prompt_ids([message]) == expected

    @pytest.mark.parametrize(
        ("messages", "code", "named"),
        [
            ([], "prompt-empty", ""),
            ("Hello", "prompt-malformed", "list"),
            ({"role": "user", "content": "Hello"}, "prompt-malformed", "list"),
            (["Hello"], "prompt-malformed", "role"),
            ([{"content": "Hello"}], "prompt-malformed", "role"),
            ([{"role": "user"}], "prompt-malformed", "(user)"),
            ([{"role": "user", "content": 5}], "prompt-malformed", "5"),
            (
                [{"role": "user", "content": [{"type": "image_url"}]}],
                "content-unsupported",
                "'image_url'",
            ),
            ([{"role": "user", "content": ["Hello"]}], "content-unsupported", "None"),
            (
                [{"role": "assistant", "content": "", "token_ids": 5}],
                "prompt-malformed",
                "token_ids",
            ),
        ],
    )
    def test_malformed(self, messages: Any, code: str, named: str, llama_2: Tokenizer) -> None:
        with raises(code, named, error=ConfigError):
            Conversation(_template(), llama_2).prompt_ids(messages)

    def test_an_unknown_role_names_those_there_are(self, llama_2: Tokenizer) -> None:
        conversation = Conversation(_template(), llama_2)
        with raises("role-unknown", "'usr'", "'user'", "assistant, system, tool, user"):
            conversation.append("usr", "Hello")
        assert conversation.messages == ()

    def test_a_preset_of_an_unknown_role(self, llama_2: Tokenizer) -> None:
        with raises("role-unknown", "'bot'"):
            Conversation(_chatml(messages=[("bot", "Hi")]), llama_2)

    def test_a_template_of_another_model(self, llama_2: Tokenizer) -> None:
        template = _template(config=ConvConfig(system_prefix_token_ids=[128000]))
        with raises("template-mismatch", 128000, 32000):
            Conversation(template, llama_2)

    def test_lm_without_a_users_message(self, llama_2: Tokenizer) -> None:
        with raises("prompt-malformed", "'LM'", error=ConfigError):
            Conversation(_template("LM"), llama_2).prompt_ids([TURNS[1]])

    def test_no_character(self, llama_2: Tokenizer) -> None:
        with raises("text-invalid", "U+DC00", error=TokenizerError):
            Conversation(_template(), llama_2).prompt_ids([{"role": "user", "content": "\udc00"}])


class _Counting(Tokenizer):
    """A tokenizer that counts how often it encodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._inner = tokenizer
        self.encoded = 0
        self.vocab_size = tokenizer.vocab_size
        self.bos_id, self.eos_id, self.unk_id = tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id
        self.special_ids = tokenizer.special_ids
        self.prefix_after_special = tokenizer.prefix_after_special

    def stream(self, *, continues: bool = False) -> Detokenizer:
        return self._inner.stream(continues=continues)

    def _encode(self, text: str, continues: bool) -> list[int]:
        self.encoded += 1
        return self._inner.encode(text, continues=continues)


def _without_bos(tokenizer: Tokenizer) -> Tokenizer:
    copy = _Counting(tokenizer)
    copy.bos_id = None
    return copy


@cache
def _transformers_llama_2(test_data: Path) -> Any:
    """The official tokenizer, in the way of the original code of Meta (``legacy=True``)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        folder = test_data / "tokenizers" / "llama-2"
        return transformers.AutoTokenizer.from_pretrained(folder, legacy=True)
