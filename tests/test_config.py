"""The user's configuration objects and a model's own file, and how one is laid over the other."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import pickle
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import ModelFile, Overlay
from mlc_llm.errors import ConfigError, MLCError, ModelFolderError, TemplateError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.plugin.registry import default_registry

TEMPLATE = {
    "name": "plain",
    "roles": {"user": "U", "assistant": "A"},
    "seps": ["\n"],
    "stop_str": ["U:"],
}
FILE: dict[str, Any] = {
    "model_type": "llama",
    "quantization": "q4f16_1",
    "model_config": {"hidden_size": 64},
    "vocab_size": 512,
    "context_window_size": 2048,
    "prefill_chunk_size": 1024,
    "temperature": 0.5,
    "top_p": 0.9,
    "presence_penalty": 0.25,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "mean_gen_len": 100,
    "max_gen_len": 200,
    "shift_fill_factor": 0.4,
    "tokenizer_files": ["tokenizer.json"],
    "conv_template": TEMPLATE,
}

CHAT: dict[str, Any] = {
    "model_lib": "lib.so",
    "local_id": "mine",
    "conv_template": "llama-2",
    "temperature": 0.75,
    "presence_penalty": -1.0,
    "frequency_penalty": 1.0,
    "repetition_penalty": 1.25,
    "top_p": 0.5,
    "mean_gen_len": 10,
    "max_gen_len": 20,
    "shift_fill_factor": 0.25,
    "tokenizer_files": ["tokenizer.model"],
    "conv_config": ConvConfig(system_message="Be brief."),
    "model_category": "llama",
    "model_name": "Tiny",
    "tensor_parallel_shards": 1,
    "use_presharded_weights": False,
    "context_window_size": 512,
    "sliding_window_size": 256,
    "prefill_chunk_size": 128,
    "attention_sink_size": 4,
    "max_batch_size": 2,
    "num_threads": 3,
    "opt": "activations=a8",
}
CONV: dict[str, Any] = {
    "name": "other",
    "system_template": "<sys>{system_message}</sys>",
    "system_message": "Be kind.",
    "system_prefix_token_ids": [1],
    "add_role_after_system_message": False,
    "roles": {"user": "You"},
    "role_templates": {"user": "({user_message})"},
    "messages": [("user", "1+1?"), ("assistant", "2")],
    "seps": ["; ", "</s>"],
    "role_content_sep": "> ",
    "role_empty_sep": ">",
    "stop_str": ["!"],
    "stop_token_ids": [7],
    "function_string": "f",
    "use_function_calling": True,
    "strip_reasoning_in_history": True,
    "add_bos": True,
    "offset": 0,
    "separator_style": 1,
}
GENERATION: dict[str, Any] = {
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.75,
    "frequency_penalty": -0.5,
    "mean_gen_len": 5,
    "max_gen_len": 6,
    "n": 2,
    "stop": ["."],
    "seed": 7,
    "logit_bias": {5: -100.0},
    "logprobs": 3,
}
OVERLAYS = [(ChatConfig, CHAT), (ConvConfig, CONV), (GenerationConfig, GENERATION)]
SAMPLING = (
    "temperature",
    "top_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def _file(**changes: Any) -> ModelFile:
    return ModelFile.model_validate(copy.deepcopy({**FILE, **changes}))


def _settings(overlay: ChatConfig | None = None, **changes: Any) -> ChatSettings:
    return ChatSettings.of(_file(**changes), overlay, default_registry())


def _message(make: Any) -> str:
    with pytest.raises(ConfigError) as error:
        make()
    return str(error.value)


class TestFields:
    @pytest.mark.parametrize(("cls", "values"), OVERLAYS)
    def test_every_field_is_there_optional_and_kept(
        self, cls: type[Overlay], values: dict[str, Any]
    ) -> None:
        assert cls.model_fields.keys() == values.keys()
        empty = cls()
        assert all(getattr(empty, name) is None for name in values)
        assert empty.overrides() == {}
        full = cls(**values)
        assert {name: getattr(full, name) for name in values} == values
        assert full.overrides() == values

    @pytest.mark.parametrize(("cls", "values"), OVERLAYS)
    def test_none_means_not_set(self, cls: type[Overlay], values: dict[str, Any]) -> None:
        nothing = cls(**dict.fromkeys(values))
        assert nothing.overrides() == {}
        assert repr(nothing) == f"{cls.__name__}()"

    @pytest.mark.parametrize(("cls", "values"), OVERLAYS)
    def test_assignment_is_as_construction(
        self, cls: type[Overlay], values: dict[str, Any]
    ) -> None:
        assigned = cls()
        for name, value in values.items():
            setattr(assigned, name, value)
        assert assigned == cls(**values)
        for name in values:
            setattr(assigned, name, None)
        assert assigned.overrides() == {}

    def test_repr_shows_what_is_set(self) -> None:
        config = ChatConfig(max_gen_len=5, conv_config=ConvConfig(system="Hi"), top_p=None)
        assert (
            repr(config) == "ChatConfig(conv_config=ConvConfig(system_message='Hi'), max_gen_len=5)"
        )

    @pytest.mark.parametrize(("cls", "values"), OVERLAYS)
    def test_copies(self, cls: type[Overlay], values: dict[str, Any]) -> None:
        config = cls(**values)
        for copied in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
            assert copied == config
            assert copied.overrides() == config.overrides()


class TestOlderSpellings:
    @pytest.mark.parametrize(
        ("old", "new", "value"),
        [
            ("system", "system_message", "Be kind."),
            ("stop_tokens", "stop_token_ids", [2]),
            ("prefix_tokens", "system_prefix_token_ids", [1]),
            ("role_msg_sep", "role_content_sep", ": "),
        ],
    )
    def test_mean_the_field_of_today(self, old: str, new: str, value: Any) -> None:
        config = ConvConfig(**{old: value})
        assert config == ConvConfig(**{new: value})
        assigned = ConvConfig()
        setattr(assigned, old, value)
        assert assigned == config
        assert ConvConfig(**{old: None}).overrides() == {}
        assert ConvConfig(**{old: value, new: None}) == config
        assert ConvConfig(**{old: None, new: value}) == config
        both = _message(lambda: ConvConfig(**{old: value, new: value}))
        assert both == f"{old!r} and {new!r} are the same field; give one of them."

    def test_one_stop_string(self) -> None:
        assert ConvConfig(stop_str="x").stop_str == ["x"]
        assert GenerationConfig(stop="x").stop == ["x"]
        assert ConvConfig(stop_str=("x", "y")).stop_str == ["x", "y"]

    def test_of_a_template_that_is_given_whole(self) -> None:
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
            _settings(ChatConfig(conv_template=template)),
            _settings(conv_template=template),
        ):
            assert settings.template.system_message == "Be brief."
            assert settings.template.role_content_sep == ": "
            assert settings.template.stop_str == ["U:"]
            assert settings.template.stop_token_ids == [2]
            assert settings.template.system_prefix_token_ids == [1]
            assert settings.template.add_bos is True


class TestUnknownFields:
    @pytest.mark.parametrize(
        ("make", "name", "nearest"),
        [
            (lambda: ChatConfig(temprature=1), "temprature", "temperature"),
            (lambda: ChatConfig(context_window=1), "context_window", "context_window_size"),
            (lambda: ConvConfig(stop_strs=[]), "stop_strs", "stop_str"),
            (lambda: ConvConfig(sytem="x"), "sytem", "system"),
            (lambda: GenerationConfig(max_len=1), "max_len", "max_gen_len"),
            (lambda: ChatConfig(conv_config={"rols": {}}), "rols", "roles"),
            (lambda: ChatConfig(conv_template={**TEMPLATE, "sep": []}), "sep", "seps"),
            (lambda: setattr(ChatConfig(), "top_pp", 1), "top_pp", "top_p"),
        ],
    )
    def test_the_error_names_the_nearest(self, make: Any, name: str, nearest: str) -> None:
        message = _message(make)
        assert f"field {name!r}. Did you mean {nearest!r}" in message
        assert "Known: " in message

    @hypothesis.given(st.text(min_size=1))
    def test_any_name(self, name: str) -> None:
        for cls, values in OVERLAYS:
            if name not in {*values, *cls.older_spellings}:
                assert f"Unknown {cls.__name__} field" in _message(lambda cls=cls: cls(**{name: 1}))

    def test_a_models_file_gets_one_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        template = {**TEMPLATE, "sep_style": 1, "colour": "red"}
        path = _written(tmp_path, conv_template=template, zebra=1, conv_config={})
        loaded = ModelFile.load(path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path} has fields that are not known and not used: conv_config, zebra, "
            "conv_template.colour, conv_template.sep_style"
        ]
        assert caplog.records[0].levelno == logging.WARNING
        settings = ChatSettings.of(loaded, None, default_registry())
        assert settings.template == ConversationTemplate.from_data(TEMPLATE, "it")

    def test_a_models_file_of_known_fields_gets_none(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ModelFile.load(_written(tmp_path))
        assert not caplog.records

    def test_published_files_get_none(
        self, test_data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths = sorted((test_data / "mlc" / "weights").glob("*/mlc-chat-config.json"))
        assert len(paths) > 1
        for path in paths:
            settings = ChatSettings.of(ModelFile.load(path), None, default_registry())
            assert settings.template.name in ("chatml", "qwen2")
        assert not caplog.records


def _written(folder: Path, **changes: Any) -> Path:
    path = folder / "mlc-chat-config.json"
    path.write_text(json.dumps({**FILE, **changes}), encoding="utf-8")
    return path


RANGES = {
    "temperature": ("a number of at least 0", [0, 0.5, 2, 1e9], [-1e-9, -1]),
    "top_p": ("a number above 0 and at most 1", [1e-9, 1], [0, 1.0000001, -1]),
    "min_p": ("a number of at least 0 and at most 1", [0, 1], [-0.1, 1.1]),
    "top_k": ("a whole number of at least 0", [0, 10**9], [-1, 0.5]),
    "presence_penalty": ("a number of at least -2 and at most 2", [-2, 2], [-2.1, 2.1]),
    "frequency_penalty": ("a number of at least -2 and at most 2", [-2, 2], [-2.1, 2.1]),
    "repetition_penalty": ("a number above 0", [1e-9, 5], [0, -1]),
    "mean_gen_len": ("a whole number of at least 1", [1, 10**6], [0, -1, 1.5]),
    "max_gen_len": ("a whole number of at least 1", [1, 10**6], [0, -1, 1.5]),
    "n": ("a whole number of at least 1", [1, 8], [0, -1, 1.5]),
    "seed": ("a whole number of at least 0", [0, 2**63], [-1]),
    "logprobs": ("a whole number of at least 0 and at most 20", [0, 20], [-1, 21]),
    "shift_fill_factor": ("a number above 0 and at most 1", [0.1, 1], [0, 1.1]),
    "context_window_size": (
        "a whole number of at least 1, or -1 for no limit",
        [-1, 1, 10**6],
        [0, -2],
    ),
    "sliding_window_size": (
        "a whole number of at least 1, or -1 for no limit",
        [-1, 1],
        [0, -2, 1.5],
    ),
    "prefill_chunk_size": ("a whole number of at least 1, or -1 for no limit", [-1, 1], [0, -2]),
    "attention_sink_size": ("a whole number of at least -1", [-1, 0, 4], [-2]),
    "max_batch_size": ("a whole number of at least 1", [1], [0]),
    "num_threads": ("a whole number of at least 1 and at most 1024", [1, 1024], [0, -1, 1025]),
}
NO_NUMBERS = [True, False, "1", b"1", math.nan, math.inf, -math.inf, [], {}, 1j]
RANGED = [
    (cls, name)
    for cls in (ChatConfig, GenerationConfig)
    for name in RANGES
    if name in cls.model_fields
]


class TestRanges:
    @pytest.mark.parametrize(("cls", "name"), RANGED)
    def test_inside(self, cls: type[Overlay], name: str) -> None:
        for value in RANGES[name][1]:
            assert getattr(cls(**{name: value}), name) == value

    @pytest.mark.parametrize(("cls", "name"), RANGED)
    def test_the_error_names_field_value_and_range(self, cls: type[Overlay], name: str) -> None:
        wanted, _, outside = RANGES[name]
        for value in [*outside, *NO_NUMBERS]:
            given = "" if isinstance(value, dict) else f" (given: {value!r})"
            expected = f"{cls.__name__}.{name} is to be {wanted}{given}."
            assert _message(lambda value=value: cls(**{name: value})) == expected
            config = cls()
            assigned = _message(lambda value=value, config=config: setattr(config, name, value))
            assert assigned == expected
            assert config.overrides() == {}

    @hypothesis.given(st.sampled_from(RANGED), st.floats() | st.integers())
    def test_any_number_is_taken_as_it_is_or_refused(
        self, field: tuple[type[Overlay], str], value: float
    ) -> None:
        cls, name = field
        with contextlib.suppress(ConfigError):
            taken = getattr(cls(**{name: value}), name)
            assert taken == type(taken)(value)
            return
        message = _message(lambda: cls(**{name: value}))
        assert f"{cls.__name__}.{name} is to be {RANGES[name][0]} (given: " in message

    def test_numpys_numbers(self) -> None:
        config = GenerationConfig(n=np.int64(3), temperature=np.float32(0.5), max_gen_len=4.0)
        assert (config.n, config.temperature, config.max_gen_len) == (3, 0.5, 4)
        assert type(config.n) is type(config.max_gen_len) is int

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (
                lambda: GenerationConfig(logit_bias={5: 200}),
                "GenerationConfig.logit_bias.5 is to be a number of at least -100 and at most 100 "
                r"\(given: 200\)\.",
            ),
            (lambda: GenerationConfig(logit_bias={-1: 0}), "GenerationConfig.logit_bias.-1"),
            (lambda: GenerationConfig(stop=""), "GenerationConfig.stop.0"),
            (lambda: GenerationConfig(stop=[5]), "GenerationConfig.stop.0"),
            (lambda: ConvConfig(stop_token_ids=[-1]), "ConvConfig.stop_token_ids.0 is to be"),
            (lambda: ConvConfig(seps=[]), "ConvConfig.seps"),
            (lambda: ConvConfig(seps=["", "", ""]), "ConvConfig.seps"),
            (lambda: ConvConfig(roles=["U", "A"]), "ConvConfig.roles"),
            (lambda: ChatConfig(tensor_parallel_shards=2), "tensor_parallel_shards.*given: 2"),
            (lambda: ChatConfig(conv_template=5), "a template's name or a mapping of its fields"),
            (lambda: ChatConfig(conv_config=GenerationConfig()), "ChatConfig.conv_config"),
            (
                lambda: GenerationConfig(n=0, top_p=2),
                r"Config.top_p is .*\(given: 2\)\. GenerationConfig.n is .*\(given: 0\)\.",
            ),
        ],
    )
    def test_the_rest(self, make: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make()

    @pytest.mark.parametrize("name", [n for n in RANGES if n in ModelFile.model_fields])
    def test_of_a_models_file(self, name: str, tmp_path: Path) -> None:
        wanted, _, outside = RANGES[name]
        for value in [*outside, "1", True, math.nan]:
            if (value == 0 and name.endswith("window_size")) or (value == 0 and "chunk" in name):
                continue  # There it means "not given".
            path = _written(tmp_path, **{name: value})
            with pytest.raises(ModelFolderError) as error:
                ModelFile.load(path)
            assert str(error.value) == f"{path}: {name} is to be {wanted} (given: {value!r})."


class TestModelFile:
    def test_null_means_not_there(self, tmp_path: Path) -> None:
        optional = {n for n, field in ModelFile.model_fields.items() if not field.is_required()}
        loaded = ModelFile.load(_written(tmp_path, **dict.fromkeys(optional)))
        required = {name: value for name, value in FILE.items() if name not in optional}
        assert loaded == ModelFile.model_validate(required)
        with pytest.raises(ModelFolderError, match="vocab_size is needed and not there"):
            ModelFile.load(_written(tmp_path, vocab_size=None))

    def test_a_window_of_0_means_not_given(self, tmp_path: Path) -> None:
        windows = ("context_window_size", "sliding_window_size", "prefill_chunk_size")
        loaded = ModelFile.load(_written(tmp_path, **dict.fromkeys(windows, 0)))
        assert [getattr(loaded, name) for name in windows] == [-1, -1, -1]

    def test_an_overlaid_file_shares_nothing(self) -> None:
        file, config = _file(), ChatConfig(conv_template=TEMPLATE, tokenizer_files=["a"])
        laid = file.overlaid(config)
        assert isinstance(laid.conv_template, dict)
        laid.conv_template["roles"]["user"] = "changed"
        laid.tokenizer_files.append("changed")
        laid.architecture_config["hidden_size"] = 1
        assert file == _file()
        assert config == ChatConfig(conv_template=TEMPLATE, tokenizer_files=["a"])


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
        settings = _settings(ChatConfig(**chat)).sampling(GenerationConfig(**generation))
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
        settings = _settings(ChatConfig(max_gen_len=chat))
        assert settings.max_tokens(GenerationConfig(max_gen_len=generation)) == expected

    def test_every_field_of_the_file_can_be_overridden(self) -> None:
        names = ChatConfig.model_fields.keys() & ModelFile.model_fields.keys()
        file = _settings(ChatConfig(**CHAT)).file
        assert {name: getattr(file, name) for name in names} == {name: CHAT[name] for name in names}

    def test_what_is_in_force_can_be_read(self) -> None:
        effective = _settings(ChatConfig(max_gen_len=5)).effective("lib.so")
        assert (effective.max_gen_len, effective.temperature) == (5, 0.5)
        assert (effective.model_lib, effective.conv_template) == ("lib.so", TEMPLATE)

    def test_defaults_of_one_do_not_leak_into_another(self) -> None:
        file = _file()
        for overlay in (None, ChatConfig(), ChatConfig(conv_config=ConvConfig())):
            settings = ChatSettings.of(file, overlay, default_registry())
            assert settings.file == file
            assert settings.template == ConversationTemplate.from_data(TEMPLATE, "it")
            sampling = settings.sampling(GenerationConfig())
            assert {n: getattr(sampling, n) for n in SAMPLING} == {n: FILE[n] for n in SAMPLING}

    def test_a_reset_lays_over_the_models_own_again(self) -> None:
        file, registry = _file(), default_registry()
        first = ChatSettings.of(
            file,
            ChatConfig(top_p=0.1, context_window_size=64, conv_config=ConvConfig(system="A")),
            registry,
        )
        change = ChatConfig(temperature=0.0, context_window_size=None, conv_config=None)
        second = first.reset(file, change, registry)
        assert (second.file.temperature, second.file.top_p) == (0.0, FILE["top_p"])
        assert second.file.context_window_size == 64  # settled at load; None does not unset it
        assert second.template.system_message == ""
        third = second.reset(file, ConvConfig(system="B"), registry)
        assert (third.template.system_message, third.file.temperature) == ("B", FILE["temperature"])
        assert file == _file()


class TestTemplateOfAChat:
    def test_by_name(self) -> None:
        assert _settings(ChatConfig(conv_template="llama-2")).template.name == "llama-2"
        assert _settings(conv_template="LM").template.name == "LM"

    def test_as_an_object(self) -> None:
        template = ConversationTemplate.from_data({**TEMPLATE, "add_bos": True}, "it")
        for given in (template, template.model_dump(), {**TEMPLATE, "add_bos": True}):
            assert _settings(ChatConfig(conv_template=given)).template == template

    def test_one_without_memory_may_be_either(self) -> None:
        published = {"name": "LM", "roles": {"user": "", "assistant": ""}, "seps": [""]}
        assert not _settings(ChatConfig(conv_template="LM")).template.has_memory
        assert not _settings(conv_template=published).template.has_memory

    def test_an_unknown_name(self) -> None:
        with pytest.raises(MLCError, match=r"llama2.*llama-2"):
            _settings(ChatConfig(conv_template="llama2"))

    def test_a_malformed_one(self) -> None:
        with pytest.raises(TemplateError, match="seps is needed"):
            _settings(ChatConfig(conv_template={"roles": TEMPLATE["roles"]}))

    def test_conv_config_is_laid_over_either(self) -> None:
        config = ConvConfig(system="Be kind.", stop_str="x", stop_tokens=[2], roles={"user": "Me"})
        for chat in (ChatConfig(), ChatConfig(conv_template="chatml")):
            chat.conv_config = config
            template = _settings(chat).template
            assert template.system_message == "Be kind."
            assert (template.stop_str, template.stop_token_ids) == (["x"], [2])
            assert template.roles["user"] == "Me"


class TestTheCallersObjects:
    @pytest.mark.parametrize("template", ["llama-2", TEMPLATE])
    def test_are_not_changed(self, template: Any) -> None:
        conv = ConvConfig(**copy.deepcopy(CONV))
        chat = ChatConfig(**{**CHAT, "conv_template": template, "conv_config": conv})
        generation = GenerationConfig(**copy.deepcopy(GENERATION))
        before = copy.deepcopy((conv, chat, generation))
        sets = [set(config.model_fields_set) for config in before]
        registry = default_registry()
        settings = ChatSettings.of(_file(), chat, registry)
        settings = settings.reset(_file(), chat, registry)
        settings.sampling(generation)
        _vandalise(settings)
        assert (conv, chat, generation) == before
        assert [config.model_fields_set for config in (conv, chat, generation)] == sets
        assert ChatSettings.of(_file(), chat, registry).template.roles["user"] == "You"

    def test_nor_are_what_they_were_made_of(self) -> None:
        template, stops, roles = copy.deepcopy(TEMPLATE), ["x"], {"user": "Me"}
        config = ChatConfig(
            conv_template=template, conv_config=ConvConfig(stop_str=stops, roles=roles)
        )
        _vandalise(_settings(config))
        assert (template, stops, roles) == (TEMPLATE, ["x"], {"user": "Me"})
        template["roles"]["user"] = "changed"
        stops.append("changed")
        settings = _settings(config)
        assert isinstance(settings.file.conv_template, dict)
        assert settings.file.conv_template == TEMPLATE
        assert settings.template.stop_str == ["x"]

    def test_the_registrys_templates_are_not_changed_either(self) -> None:
        before = copy.deepcopy(default_registry().template("llama-2"))
        _vandalise(_settings(ChatConfig(conv_template="llama-2")))
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
