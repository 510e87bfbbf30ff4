"""What a chat says of itself, how it is reset, and what it refuses."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig
from mlc_llm.config import ModelFile
from mlc_llm.errors import (
    ConfigError,
    DeviceError,
    LibraryError,
    ModelNotFoundError,
    TemplateError,
)
from mlc_llm.plugin import ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.threads import thread_count
from mlc_llm.testing import raises

from .conftest import CHAT, Loader, held


def test_public_attributes(folder: Path, library: str, chat: ChatModule) -> None:
    assert chat.model_path == str(folder)
    assert chat.model_lib == library
    assert chat.device == "cpu:0"
    assert isinstance(chat.chat_config, ChatConfig)
    assert chat.chat_config.max_gen_len == 24
    assert chat.chat_config.context_window_size == 512
    assert repr(chat) == f"ChatModule({str(folder)!r}, device='cpu:0')"


def test_what_is_used_is_logged(
    folder: Path, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "mlc_llm"),
        ChatModule(str(folder), model_lib=library) as chat,
    ):
        assert chat.device == "cpu:0"  # auto is what the library was built for
    messages = [record.getMessage() for record in caplog.records]
    assert f"Using model folder: {folder}" in messages
    assert f"Using mlc chat config: {folder / 'mlc-chat-config.json'}" in messages
    assert f"Using library model: {library}" in messages


def test_the_number_of_threads(load: Loader, chat: ChatModule) -> None:
    """It is the chat's own, stays when the chat is reset, and changes no answer."""
    other = load(conv_template=CHAT, num_threads=1)
    assert other.generate("Hello") == chat.generate("Hello")
    assert (other.chat_config.num_threads, chat.chat_config.num_threads) == (
        1,
        thread_count().count,
    )
    other.reset_chat(ChatConfig(temperature=0.5))
    assert other.chat_config.num_threads == 1


def test_a_library_serves_any_number_of_threads(folder: Path) -> None:
    config, registry = ModelFile.load(folder / "mlc-chat-config.json"), default_registry()
    architecture = registry.architecture(config.model_type)
    one, two = (
        ModelSpec.of(
            config.model_copy(update={"num_threads": count}), architecture, folder_plan(config)
        )
        for count in (None, 2)
    )
    assert one == two


def test_the_users_objects_are_not_changed(load: Loader) -> None:
    conv = ConvConfig(system_message="Be brief.")
    config = ChatConfig(conv_template=CHAT, conv_config=conv, max_gen_len=3)
    before = config.model_copy(deep=True)
    chat = load(**config.overrides())
    chat.reset_chat(config)
    chat.generate("Hello", GenerationConfig(max_gen_len=2))
    assert config == before
    assert config.model_fields_set == before.model_fields_set


def test_reset_chat_lays_over_the_models_own(load: Loader) -> None:
    chat = load(conv_template=CHAT, max_gen_len=5, context_window_size=100)
    chat.generate("Hello")
    chat.reset_chat(ChatConfig(conv_config=ConvConfig(stop_tokens=[7])))
    assert chat.messages == ()
    assert chat.metrics.decode.tokens == 0
    assert chat.chat_config.max_gen_len == 512  # the model's own again
    assert chat.chat_config.context_window_size == 100  # settled at load
    assert chat.chat_config.conv_template != CHAT
    chat.reset_chat(ChatConfig(conv_template=CHAT, max_gen_len=9, temperature=0.0))
    chat.generate("Hello")
    assert chat.metrics.decode.tokens == 8
    chat.reset_chat(ConvConfig(system_message="Be brief."))
    chat.generate("Hello", GenerationConfig(max_gen_len=2))


def test_reset_chat_can_change_the_window(load: Loader) -> None:
    chat = load(context_window_size=40, max_gen_len=200)
    chat.generate("Once upon a time")
    assert len(held(chat)) == 40
    chat.reset_chat(ChatConfig(context_window_size=70, temperature=0.0))
    chat.generate("Once upon a time", GenerationConfig(max_gen_len=200))
    assert len(held(chat)) == 70
    with raises("memory-too-small", error=DeviceError):
        chat.reset_chat(ChatConfig(context_window_size=1 << 30))
    assert chat.chat_config.context_window_size == 70
    assert chat.generate("Once upon a time")


def test_a_reset_that_fails_changes_nothing(chat: ChatModule) -> None:
    chat.generate("Hello")
    before = chat.messages
    for wrong, error in (
        (ChatConfig(conv_template="no such"), TemplateError),
        (ChatConfig(sliding_window_size=8), ConfigError),
        (ChatConfig(model_lib="other.so"), ConfigError),
        (ChatConfig(opt="x=y"), ConfigError),
        (ChatConfig(num_threads=1023), ConfigError),
    ):
        with pytest.raises(error):
            chat.reset_chat(wrong)
        assert chat.messages == before


def test_a_generation_overrides_the_chat(chat: ChatModule) -> None:
    chat.generate("Hello", GenerationConfig(max_gen_len=3))
    assert chat.metrics.decode.tokens == 2
    with raises("config-invalid", "generate", "n", error=ConfigError):
        chat.stream("Hello", GenerationConfig(n=2))


def test_a_wrong_chat_config(folder: Path, library: str) -> None:
    with raises("argument-mistyped", "chat_config", "ChatConfig", error=ConfigError):
        ChatModule(str(folder), "cpu", {"temperature": 0}, library)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model", "device", "model_lib"])
def test_an_argument_of_the_wrong_type(name: str, folder: Path) -> None:
    wrong: dict[str, Any] = {"model": str(folder), "device": "cpu", name: {"a": 1}}
    with raises("argument-mistyped", name, "{'a': 1}", error=ConfigError):
        ChatModule(**wrong)


def test_wrong_settings(chat: ChatModule) -> None:
    wrong: Any = {"temperature": 0}
    for call in (
        lambda: chat.generate("Hello", wrong),
        lambda: chat.stream("Hello", wrong),
        lambda: chat.generate("Hello", GenerationConfig(logit_bias={320: 1.0})),
        lambda: chat.generate("Hello", GenerationConfig(stop="")),
        lambda: chat.reset_chat(wrong),
    ):
        with pytest.raises(ConfigError):
            call()
    assert chat.messages == ()


def test_things_that_are_not_there(folder: Path, library: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        ChatModule(str(tmp_path / "none"))
    with raises("library-unusable", tmp_path / "none.so", error=LibraryError):
        ChatModule(str(folder), model_lib=str(tmp_path / "none.so"))
    with raises("template-unknown", "'L M'", "LM", error=TemplateError):
        ChatModule(str(folder), "cpu", ChatConfig(conv_template="L M"), library)


def test_a_library_for_another_window(folder: Path, library: str) -> None:
    with raises("library-unusable", "sliding_window_size", error=LibraryError):
        ChatModule(str(folder), "cpu", ChatConfig(sliding_window_size=64), library)
