"""The fields of the user's configuration objects, their older spellings, and what is none."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.config import Overlay
from mlc_llm.testing import raises

from .values import OVERLAYS, TEMPLATE


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
        with raises("config-invalid", repr(old), repr(new)):
            ConvConfig(**{old: value, new: value})

    def test_one_stop_string(self) -> None:
        assert ConvConfig(stop_str="x").stop_str == ["x"]
        assert GenerationConfig(stop="x").stop == ["x"]
        assert ConvConfig(stop_str=("x", "y")).stop_str == ["x", "y"]


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
        with raises("field-unknown", repr(name), repr(nearest)):
            make()

    @hypothesis.given(st.text(min_size=1))
    def test_any_name(self, name: str) -> None:
        for cls, values in OVERLAYS:
            if name not in {*values, *cls.older_spellings}:
                with raises("field-unknown", f"{cls.__name__} field"):
                    cls(**{name: 1})
