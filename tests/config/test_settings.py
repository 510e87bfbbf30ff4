"""How what a chat goes by is laid over the model's own, and over that what an answer goes by."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import ModelFile
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing import raises

from .values import CHAT, CONV, FILE, GENERATION, TEMPLATE, model_file, settings_of

SAMPLING = (
    "temperature",
    "top_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


class TestOrder:
    """Model file < ChatConfig < GenerationConfig, field by field."""

    @hypothesis.given(
        st.sets(st.sampled_from(SAMPLING)),
        st.sets(st.sampled_from(SAMPLING)),
        st.sets(st.sampled_from(SAMPLING)),
    )
    def test_only_what_is_set_overrides(
        self, in_chat: set[str], in_generation: set[str], unset: set[str]
    ) -> None:
        chat = {name: CHAT[name] for name in in_chat} | dict.fromkeys(unset - in_chat)
        generation = {name: GENERATION[name] for name in in_generation}
        generation |= dict.fromkeys(unset - in_generation)
        settings = settings_of(ChatConfig(**chat)).sampling(GenerationConfig(**generation))
        for name in SAMPLING:
            expected = FILE[name]
            if name in in_chat:
                expected = CHAT[name]
            if name in in_generation:
                expected = GENERATION[name]
            assert getattr(settings, name) == expected

    @pytest.mark.parametrize(
        ("chat", "generation", "expected"),
        [(None, None, 200), (20, None, 20), (None, 6, 6), (20, 6, 6)],
    )
    def test_lengths(self, chat: int | None, generation: int | None, expected: int) -> None:
        settings = settings_of(ChatConfig(max_gen_len=chat))
        assert settings.max_tokens(GenerationConfig(max_gen_len=generation)) == expected

    def test_every_field_of_the_file_can_be_overridden(self) -> None:
        names = ChatConfig.model_fields.keys() & ModelFile.model_fields.keys()
        file = settings_of(ChatConfig(**CHAT)).file
        assert {name: getattr(file, name) for name in names} == {name: CHAT[name] for name in names}

    def test_what_is_in_force_can_be_read(self) -> None:
        effective = settings_of(ChatConfig(max_gen_len=5)).effective("lib.so")
        assert (effective.max_gen_len, effective.temperature) == (5, 0.5)
        assert (effective.model_lib, effective.conv_template) == ("lib.so", TEMPLATE)

    def test_defaults_of_one_do_not_leak_into_another(self) -> None:
        file = model_file()
        for overlay in (None, ChatConfig(), ChatConfig(conv_config=ConvConfig())):
            settings = ChatSettings.of(file, overlay, default_registry(), Path())
            assert settings.file == file
            assert settings.template == ConversationTemplate.from_data(TEMPLATE, "it")
            sampling = settings.sampling(GenerationConfig())
            assert {n: getattr(sampling, n) for n in SAMPLING} == {n: FILE[n] for n in SAMPLING}

    def test_a_reset_lays_over_the_models_own_again(self) -> None:
        file, registry = model_file(), default_registry()
        first = ChatSettings.of(
            file,
            ChatConfig(top_p=0.1, context_window_size=64, conv_config=ConvConfig(system="A")),
            registry,
            Path(),
        )
        change = ChatConfig(temperature=0.0, context_window_size=None, conv_config=None)
        second = first.reset(file, change, registry, Path())
        assert (second.file.temperature, second.file.top_p) == (0.0, FILE["top_p"])
        assert second.file.context_window_size == 64  # settled at load; None does not unset it
        assert second.template.system_message == ""
        third = second.reset(file, ConvConfig(system="B"), registry, Path())
        assert (third.template.system_message, third.file.temperature) == ("B", FILE["temperature"])
        assert file == model_file()


class TestTemplateOfAChat:
    def test_by_name(self) -> None:
        assert settings_of(ChatConfig(conv_template="llama-2")).template.name == "llama-2"
        assert settings_of(conv_template="LM").template.name == "LM"

    def test_as_an_object(self) -> None:
        template = ConversationTemplate.from_data({**TEMPLATE, "add_bos": True}, "it")
        for given in (template, template.model_dump(), {**TEMPLATE, "add_bos": True}):
            assert settings_of(ChatConfig(conv_template=given)).template == template

    def test_one_without_memory_may_be_either(self) -> None:
        published = {"name": "LM", "roles": {"user": "", "assistant": ""}, "seps": [""]}
        assert not settings_of(ChatConfig(conv_template="LM")).template.has_memory
        assert not settings_of(conv_template=published).template.has_memory

    def test_an_unknown_name(self) -> None:
        with raises("template-unknown", "llama2", "llama-2"):
            settings_of(ChatConfig(conv_template="llama2"))

    def test_a_malformed_one(self) -> None:
        with raises("template-invalid", "seps"):
            settings_of(ChatConfig(conv_template={"roles": TEMPLATE["roles"]}))

    def test_conv_config_is_laid_over_either(self) -> None:
        config = ConvConfig(system="Be kind.", stop_str="x", stop_tokens=[2], roles={"user": "Me"})
        for chat in (ChatConfig(), ChatConfig(conv_template="chatml")):
            chat.conv_config = config
            template = settings_of(chat).template
            assert template.system_message == "Be kind."
            assert (template.stop_str, template.stop_token_ids) == (["x"], [2])
            assert template.roles["user"] == "Me"

    def test_the_older_spellings_in_one_that_is_given_whole(self) -> None:
        template = {
            "name": "old",
            "system": "Be brief.",
            "roles": TEMPLATE["roles"],
            "seps": ["\n"],
            "role_msg_sep": ": ",
            "stop_str": "U:",
            "stop_tokens": [2],
            "prefix_tokens": [1],
            "offset": 0,
            "separator_style": 0,
            "add_bos": True,
        }
        for settings in (
            settings_of(ChatConfig(conv_template=template)),
            settings_of(conv_template=template),
        ):
            assert settings.template.system_message == "Be brief."
            assert settings.template.role_content_sep == ": "
            assert settings.template.stop_str == ["U:"]
            assert settings.template.stop_token_ids == [2]
            assert settings.template.system_prefix_token_ids == [1]
            assert settings.template.add_bos is True


class TestTheCallersObjects:
    @pytest.mark.parametrize("template", ["llama-2", TEMPLATE])
    def test_are_not_changed(self, template: Any) -> None:
        conv = ConvConfig(**copy.deepcopy(CONV))
        chat = ChatConfig(**{**CHAT, "conv_template": template, "conv_config": conv})
        generation = GenerationConfig(**copy.deepcopy(GENERATION))
        before = copy.deepcopy((conv, chat, generation))
        sets = [set(config.model_fields_set) for config in before]
        registry = default_registry()
        settings = ChatSettings.of(model_file(), chat, registry, Path())
        settings = settings.reset(model_file(), chat, registry, Path())
        settings.sampling(generation)
        _vandalise(settings)
        assert (conv, chat, generation) == before
        assert [config.model_fields_set for config in (conv, chat, generation)] == sets
        assert ChatSettings.of(model_file(), chat, registry, Path()).template.roles["user"] == "You"

    def test_nor_are_what_they_were_made_of(self) -> None:
        template, stops, roles = copy.deepcopy(TEMPLATE), ["x"], {"user": "Me"}
        config = ChatConfig(
            conv_template=template, conv_config=ConvConfig(stop_str=stops, roles=roles)
        )
        _vandalise(settings_of(config))
        assert (template, stops, roles) == (TEMPLATE, ["x"], {"user": "Me"})
        template["roles"]["user"] = "changed"
        stops.append("changed")
        settings = settings_of(config)
        assert isinstance(settings.file.conv_template, dict)
        assert settings.file.conv_template == TEMPLATE
        assert settings.template.stop_str == ["x"]

    def test_the_registrys_templates_are_not_changed_either(self) -> None:
        before = copy.deepcopy(default_registry().template("llama-2"))
        _vandalise(settings_of(ChatConfig(conv_template="llama-2")))
        assert default_registry().template("llama-2") == before


def _vandalise(settings: ChatSettings) -> None:
    """Change whatever can be changed in what a chat goes by."""
    settings.template.roles["user"] = "changed"
    settings.template.role_templates["user"] = "changed"
    settings.template.stop_str.append("changed")
    settings.template.stop_token_ids.append(99)
    settings.file.tokenizer_files.append("changed")
    if isinstance(settings.file.conv_template, dict):
        settings.file.conv_template["roles"]["user"] = "changed"
    effective = settings.effective("lib.so")
    assert effective.tokenizer_files is not None
    effective.tokenizer_files.append("changed")
    effective.temperature = 0.0
