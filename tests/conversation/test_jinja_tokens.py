"""Prompts of models' own chat templates in tokens, compared with transformers."""

from __future__ import annotations

import copy
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.config import ConvConfig
from mlc_llm.conversation import Conversation, JinjaTemplate, Message, read_jinja_template
from mlc_llm.errors import ConfigError, TemplateError
from mlc_llm.testing import raises
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

from .jinja_templates import ALL, CHATML, MADE_OF_ROLES
from .test_jinja_rendering import CONVERSATIONS, TEXT, TOOLS, llama_2_chat

SMOLLM2, LLAMA_2, MISTRAL = "smollm2-135m-instruct", "llama-2", "mistral-7b-instruct-v0.3"
CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "<|user|>"]
HOSTILE = st.lists(
    st.sampled_from([*CONTROL, "<|im_", "start|>", "<", "|>", "s>", "user", "system", "\n"]) | TEXT,
    max_size=8,
).map("".join)


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@cache
def _reference(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="session")
def smollm2(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer, with what its ``tokenizer_config.json`` says of control tokens."""
    folder = tmp_path_factory.mktemp("smollm2")
    shutil.copy(test_data / "tokenizers" / SMOLLM2 / "tokenizer.json", folder)
    config = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "chat_template": CHATML,
        "tokenizer_class": "GPT2Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _template(source: str, **changes: Any) -> JinjaTemplate:
    template = JinjaTemplate(source, "it", special_tokens={"bos_token": "<s>", "eos_token": "</s>"})
    return template.overlaid(ConvConfig(**changes))


def _own(folder: Path) -> JinjaTemplate:
    template = read_jinja_template(folder)
    assert template is not None
    return template


def _official(folder: Path, messages: list[dict[str, Any]], **variables: Any) -> list[int] | None:
    """transformers' ids; None where the template refuses the messages."""
    given = {"add_generation_prompt": True, "return_dict": False, **variables}
    try:
        ids = _reference(folder).apply_chat_template(copy.deepcopy(messages), **given)
    except Exception:  # jinja2's errors, and Python's
        return None
    return list(ids)


def test_twenty_prompts_of_smollm2(smollm2: Path, transformers: Any) -> None:
    """With no option given the ids are the official ones."""
    conversation = Conversation(_own(smollm2), _tokenizer(smollm2))
    assert _tokenizer(smollm2).end_ids <= conversation.stop_ids
    for number in range(20):
        prompt = f"Question {number}: what is {number} plus {7 * number}?" + "\n" * (number % 3)
        messages = [{"role": "user", "content": prompt}]
        assert conversation.prompt_ids(messages) == _official(smollm2, messages)


@pytest.mark.parametrize("conversation", sorted(CONVERSATIONS.keys() - {"parts"}))
def test_ids_of_a_real_folder(conversation: str, test_data: Path, transformers: Any) -> None:
    folder = test_data / "tokenizers" / MISTRAL
    messages = CONVERSATIONS[conversation]
    for tools in (None, TOOLS):
        expected = _official(folder, messages, tools=tools)
        variables = {} if tools is None else {"tools": tools}
        template = _own(folder).overlaid(ConvConfig(chat_template_kwargs=variables))
        ours = Conversation(template, _tokenizer(folder))
        if expected is None:
            with raises("template-refused"):
                ours.prompt_ids(messages)
        else:
            assert ours.prompt_ids(messages) == expected


@pytest.mark.parametrize("tokenizer", [SMOLLM2, LLAMA_2, MISTRAL])
@pytest.mark.parametrize("name", ALL)
@hypothesis.settings(max_examples=20)
@hypothesis.given(texts=st.lists(HOSTILE, min_size=5, max_size=5))
def test_no_message_makes_a_control_token(
    tokenizer: str, name: str, texts: list[str], test_data: Path
) -> None:
    """A prompt has the control tokens of its template, whatever the messages say."""
    loaded = _tokenizer(test_data / "tokenizers" / tokenizer)
    control = set(loaded.special_ids.values())
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    if tokenizer != SMOLLM2:
        special = {"bos_token": "<s>", "eos_token": "</s>"}
    template = JinjaTemplate(ALL[name], "it", special_tokens=special)
    conversation = Conversation(template, loaded)

    def count(contents: list[str]) -> list[int]:
        roles = ["user", "assistant", "user", "assistant", "user"]
        given = zip(roles, contents, strict=True)
        messages = [{"role": role, "content": text, "name": text} for role, text in given]
        return [token for token in conversation.prompt_ids(messages) if token in control]

    # What a template asks of a text, such as its length, stays as it is.
    bland = ["".join("x" if letter in "<>|[]" else letter for letter in text) for text in texts]
    assert count(texts) == count(bland)


def test_roles_make_the_control_tokens_that_the_template_means(smollm2: Path) -> None:
    """A role that is well known is the template's own; another one is a text of the user's."""
    tokenizer = _tokenizer(smollm2)
    conversation = Conversation(_template(MADE_OF_ROLES), tokenizer)
    ids = conversation.prompt_ids([{"role": "im_start", "content": "Hello"}])
    assert tokenizer.special_ids["<|im_start|>"] not in ids
    marked = MADE_OF_ROLES.replace("'<|' + message['role'] + '|>", "'<|im_' + 'start|>")
    ids = Conversation(_template(marked), tokenizer).prompt_ids([Message("user", "Hello")])
    assert ids[0] == tokenizer.special_ids["<|im_start|>"]


class TestAnswers:
    """What was generated stays as it was generated."""

    def test_tokens_take_the_place_of_the_text(self, smollm2: Path) -> None:
        tokenizer = _tokenizer(smollm2)
        odd = [token for letter in "Hello" for token in tokenizer.encode(letter)]
        assert odd != tokenizer.encode("Hello")
        turns: list[Any] = [Message("user", "Hi"), Message("assistant", "Hello", tuple(odd))]
        prompt = Conversation(_own(smollm2), tokenizer).prompt([*turns, Message("user", "x")])
        (where,) = prompt.generated
        assert [prompt.ids[index] for index in where] == odd

    def test_also_of_a_part(self, smollm2: Path) -> None:
        """Reasoning that the template leaves out, and white space that it trims."""
        tokenizer = _tokenizer(smollm2)
        text = "<think>\nHm.\n</think>\n\nHello there "
        ids = tuple(
            tokenizer.encode(text[: text.index(" there")])
            + tokenizer.encode(" there")
            + tokenizer.encode(" ")
        )
        template = _template(
            "{% for m in messages %}{{ m.content.split('</think>')[-1] | trim }}|{% endfor %}"
        )
        conversation = Conversation(template, tokenizer)
        assert tokenizer.decode(ids) == text
        prompt = conversation.prompt([Message("user", "x"), Message("assistant", text, ids)])
        (where,) = prompt.generated
        assert tokenizer.decode([prompt.ids[index] for index in where]) == "Hello there"

    def test_not_where_the_template_changes_the_text(self, smollm2: Path) -> None:
        tokenizer = _tokenizer(smollm2)
        answer = Message("assistant", "Hello", tuple(tokenizer.encode("Hello")))
        for change in ("m.content | upper", "m.content ~ m.content", "m.content[1:]"):
            template = _template("{% for m in messages %}{{ " + change + " }}|{% endfor %}")
            assert not Conversation(template, tokenizer).prompt([answer]).generated

    def test_the_space_before_an_answer_is_there_once(self, test_data: Path) -> None:
        """Llama-2's template writes a space, which is the first token's here."""
        tokenizer = _tokenizer(test_data / "tokenizers" / LLAMA_2)
        template = _template(llama_2_chat(test_data))
        conversation = Conversation(template, tokenizer)
        first = conversation.prompt_ids([{"role": "user", "content": "Hello"}])
        answer = tokenizer.encode("Hi there")
        conversation.append("user", "Hello")
        conversation.append("assistant", "Hi there", [*answer, 2])
        conversation.append("user", "x")
        assert conversation.prompt_ids()[: len(first) + len(answer)] == [*first, *answer]


class TestContinuing:
    @pytest.mark.parametrize("text", ["Well then, I ", "", "Yes,\n", " so"])
    @pytest.mark.parametrize("folder", [SMOLLM2, MISTRAL])
    def test_as_transformers_does(
        self, folder: str, text: str, smollm2: Path, test_data: Path, transformers: Any
    ) -> None:
        path = smollm2 if folder == SMOLLM2 else test_data / "tokenizers" / folder
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
        conversation = Conversation(_own(path), _tokenizer(path))
        options = {"add_generation_prompt": False, "continue_final_message": True}
        expected = _official(path, messages, **options)
        assert list(conversation.prompt(messages, continues=True).ids) == expected

    def test_nothing_is_trimmed_of_known_tokens(self, smollm2: Path) -> None:
        tokenizer = _tokenizer(smollm2)
        source = "{% for m in messages %}{{ m.content | trim }}{{ eos_token }}{% endfor %}"
        conversation = Conversation(_template(source), tokenizer)
        ids = (*tokenizer.encode("so"), *tokenizer.encode(" "))
        answer = Message("assistant", "so ", ids)
        assert tuple(conversation.prompt([answer], continues=True).ids) == ids

    @pytest.mark.parametrize("content", ["It is", [{"type": "text", "text": "It is"}]])
    def test_an_answer_that_the_template_writes_twice(self, content: Any, smollm2: Path) -> None:
        """It goes on where it stands last, and nothing is put into it before."""
        source = (
            "{% set text = messages[-1].content %}"
            "{% set text = text if text is string else text[0].text %}"
            "{{ '1' ~ text ~ '2' ~ text[:7] ~ '3' ~ text | trim ~ '4' ~ text ~ '5' }}"
        )
        conversation = Conversation(_template(source), _tokenizer(smollm2))
        answer = {"role": "assistant", "content": content}
        assert conversation.prompt_text([answer], continues=True) == "1It is2It is3It is4It is"

    def test_an_answer_among_many_pieces(self, smollm2: Path) -> None:
        """The time that this takes grows with the prompt, and not with its square."""
        source = (
            "{% for c in messages[0].content %}{{ c ~ '-' }}{% endfor %}{{ messages[-1].content }}"
        )
        conversation = Conversation(_template(source), _tokenizer(smollm2))
        messages = [Message("user", "ab" * 20_000), Message("assistant", "It is")]
        text = conversation.prompt_text(messages, continues=True)
        assert text == "a-b-" * 20_000 + "It is"

    def test_an_answer_of_no_parts(self, smollm2: Path) -> None:
        source = "{{ '<|im_start|>' }}{% for p in messages[-1].content %}{{ p.text }}{% endfor %}"
        conversation = Conversation(_template(source), _tokenizer(smollm2))
        answer = {"role": "assistant", "content": []}
        assert conversation.prompt_text([answer], continues=True) == "<|im_start|>"

    @pytest.mark.parametrize("form", ["upper", "tojson", "title"])
    def test_an_answer_that_the_template_changes(self, form: str, smollm2: Path) -> None:
        source = f"{{{{ messages[-1].content | {form} ~ messages[-1].content }}}}"
        conversation = Conversation(_template(source), _tokenizer(smollm2))
        with raises("template-refused", error=TemplateError):
            conversation.prompt([Message("assistant", "It is")], continues=True)

    def test_an_answer_that_the_template_leaves_out(self, smollm2: Path) -> None:
        conversation = Conversation(_template("Hello"), _tokenizer(smollm2))
        with raises("template-refused", error=TemplateError):
            conversation.prompt([Message("assistant", "x")], continues=True)


class TestSystemMessages:
    def test_one_that_is_set_comes_first(self, smollm2: Path) -> None:
        template = _own(smollm2).overlaid(ConvConfig(system_message="Be brief."))
        conversation = Conversation(template, _tokenizer(smollm2))
        assert conversation.system_message == "Be brief."
        text = conversation.prompt_text([Message("user", "Hi")])
        assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi")

    def test_one_of_the_history_takes_its_place(self, smollm2: Path) -> None:
        template = _own(smollm2).overlaid(ConvConfig(system_message="Be brief."))
        conversation = Conversation(template, _tokenizer(smollm2))
        conversation.messages = [Message("system", "Be kind."), Message("user", "Hi")]
        assert conversation.system_message == "Be kind."
        assert "Be brief." not in conversation.prompt_text()
        assert conversation.complete_messages == conversation.messages

    def test_the_templates_own_is_not_known_and_not_saved(self, smollm2: Path) -> None:
        conversation = Conversation(_own(smollm2), _tokenizer(smollm2))
        conversation.append("user", "Hi")
        assert conversation.system_message == ""
        assert conversation.complete_messages == conversation.messages

    @pytest.mark.parametrize(
        "source",
        [ALL["turns"], "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"],
    )
    def test_a_template_without_a_place_for_one(self, source: str, smollm2: Path) -> None:
        tokenizer = _tokenizer(smollm2)
        assert Conversation(_template(source), tokenizer).system_message is None
        with raises("template-without-system", "it", error=TemplateError):
            Conversation(_template(source, system_message="x"), tokenizer)
        without = Conversation(_template(source, system_message=""), tokenizer)
        assert "Hi" in without.prompt_text([Message("user", "Hi")])


def test_what_can_be_set(smollm2: Path) -> None:
    template = _own(smollm2).overlaid(
        ConvConfig(
            messages=[("user", "1+1?"), ("assistant", "2")],
            stop_str=["<|endoftext|>", "END"],
            stop_token_ids=[7],
        )
    )
    conversation = Conversation(template, _tokenizer(smollm2))
    assert "1+1?<|im_end|>" in conversation.prompt_text([Message("user", "x")])
    assert conversation.stop_strings == ("<|endoftext|>", "END")
    assert {0, 2, 7} <= conversation.stop_ids


def test_what_cannot_be_set(smollm2: Path) -> None:
    for fields in ({"roles": {"user": "U"}}, {"seps": ["x"]}, {"add_bos": True}):
        with raises("template-fixed", *fields, error=TemplateError):
            _own(smollm2).overlaid(ConvConfig(**fields))
    with raises("template-fixed", "messages", error=TemplateError):
        _own(smollm2).overlaid(ConvConfig(chat_template_kwargs={"messages": []}))


@pytest.mark.parametrize(("name", "text"), [("chatml", "user\n a b"), ("turns", "user\nab")])
def test_parts_are_one_text_for_a_template_that_knows_no_parts(
    name: str, text: str, smollm2: Path
) -> None:
    parts = [{"type": "text", "text": " a"}, {"type": "text", "text": " b"}]
    conversation = Conversation(_template(ALL[name]), _tokenizer(smollm2))
    prompt = conversation.prompt_text([{"role": "user", "content": parts}])
    assert text in prompt


def test_variables_are_not_nested_for_ever(smollm2: Path) -> None:
    value: list[Any] = []
    value.append(value)
    with raises("config-invalid", "chat_template_kwargs", error=ConfigError):
        _own(smollm2).overlaid(ConvConfig(chat_template_kwargs={"x": value}))


def test_no_message(smollm2: Path) -> None:
    with raises("prompt-empty", error=ConfigError):
        Conversation(_own(smollm2), _tokenizer(smollm2)).prompt()


def test_the_template_for_tools_is_taken_where_there_are_tools(smollm2: Path) -> None:
    template = JinjaTemplate("plain", "it", tool_use="with {{ tools | length }}")
    with_tools = template.overlaid(ConvConfig(chat_template_kwargs={"tools": TOOLS}))
    messages = [Message("user", "x")]
    tokenizer = _tokenizer(smollm2)
    assert Conversation(template, tokenizer).prompt_text(messages) == "plain"
    assert Conversation(with_tools, tokenizer).prompt_text(messages) == "with 1"
