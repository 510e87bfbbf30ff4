"""A chat with the template that lies in the model's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.convert import gen_config
from mlc_llm.errors import TemplateError
from mlc_llm.testing import raises

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}</s>"
    "{% if m.name %}({{ m.name }}){% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% if short %} {% endif %}{% endif %}"
)
TURNS = [{"role": "user", "content": "Tom"}, {"role": "assistant", "content": "The cat "}]


@pytest.fixture(scope="session")
def own_folder(checkpoint: Path, make_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, which has a chat template and names no other one."""
    source = tmp_path_factory.mktemp("own") / "checkpoint"
    shutil.copytree(checkpoint, source)
    (source / "chat_template.jinja").write_text(TEMPLATE)
    (source / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    path: Path = make_model(source, "q0f32", None)
    return path


@pytest.fixture
def own(own_folder: Path, library: str) -> Iterator[ChatModule]:
    config = ChatConfig(temperature=0.0, max_gen_len=12)
    with ChatModule(str(own_folder), "cpu", config, library) as chat:
        yield chat


def _text(prompt: Any) -> str:
    return str(prompt.text)


def test_it_is_the_default(own_folder: Path, own: ChatModule) -> None:
    config = json.loads((own_folder / "mlc-chat-config.json").read_text())
    assert "conv_template" not in config
    assert "chat_template.jinja" in config["tokenizer_files"]
    prompt = own.render(" Hi</s> ")
    assert prompt.text == "<s>user: Hi</s> </s>assistant:"
    assert prompt.token_ids.count(2) == 1  # and not what the user wrote
    assert prompt.token_ids[0] == 1


def test_a_conversation_goes_on(own: ChatModule) -> None:
    first = own.render("Hi").token_ids
    answer = own.generate("Hi")
    (result,) = own.results
    second = own.render("And now?").token_ids
    assert second[: len(first) + len(result.token_ids)] == (*first, *result.token_ids)
    own.generate("And now?")
    assert own.results[0].prefilled_tokens < len(second) - len(first)
    assert own.messages[1].content == answer


def test_another_one_can_be_named(own: ChatModule) -> None:
    own.reset_chat(ChatConfig(conv_template="LM"))
    assert _text(own.render("Hi")) == "<s>Hi"
    own.reset_chat(ChatConfig(conv_template="jinja"))
    assert _text(own.render("Hi")).endswith("assistant:")


def test_what_is_set(own: ChatModule) -> None:
    settings = ConvConfig(system_message="Be brief.", chat_template_kwargs={"short": True})
    own.reset_chat(settings)
    assert own.system_message == "Be brief."
    assert _text(own.render("Hi")) == "<s>system:Be brief.</s>user:Hi</s>assistant: "
    with raises("template-fixed", "seps", error=TemplateError):
        own.reset_chat(ConvConfig(seps=["x"]))
    assert own.system_message == "Be brief."


def test_further_fields_of_messages(own: ChatModule) -> None:
    own.messages = [{"role": "user", "name": "tom", "content": "Hi"}, TURNS[1]]
    assert _text(own.render("x")).startswith("<s>user:Hi</s>(tom)assistant:The cat </s>user:x")


def test_the_oldest_turns_are_dropped(own: ChatModule) -> None:
    own.reset_chat(ConvConfig(system_message="S"))
    for _ in range(12):
        own.generate("x" * 40)
    assert own.messages[0].role == "user"
    assert len(own.messages) < 24
    assert _text(own.render("x")).startswith("<s>system:S</s>user:x")


def test_an_answer_goes_on(own: ChatModule) -> None:
    own.messages = TURNS
    config = GenerationConfig(continue_final_message=True)
    assert _text(own.render("", config)) == "<s>user:Tom</s>assistant:The cat "
    answer = own.generate("", config)
    assert own.messages[-1].content == f"The cat {answer}"


def test_a_conversation_is_saved_and_read(own: ChatModule, tmp_path: Path) -> None:
    own.generate("Hi")
    expected = own.render("And?").token_ids
    own.save(tmp_path / "chat.json")
    own.reset_chat()
    restored = own.load(tmp_path / "chat.json")
    assert restored.tokens > 0
    assert own.render("And?").token_ids == expected
    saved = json.loads((tmp_path / "chat.json").read_text())
    assert [message["role"] for message in saved["messages"]] == ["user", "assistant"]


def test_a_folder_without_any_template(own_folder: Path, library: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(own_folder, folder)
    (folder / "chat_template.jinja").unlink()
    with raises("template-missing", folder, error=TemplateError):
        ChatModule(str(folder), "cpu", None, library)
    with ChatModule(str(folder), "cpu", ChatConfig(conv_template="LM"), library) as chat:
        assert chat.system_message is None


def test_a_source_without_one(checkpoint: Path, tmp_path: Path) -> None:
    with raises("template-missing", checkpoint, "--conv-template", error=TemplateError):
        gen_config(checkpoint, "q0f32", None, tmp_path / "model")
    assert not (tmp_path / "model").exists()
