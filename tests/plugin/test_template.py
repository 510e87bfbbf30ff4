"""Conversation templates: what they accept, what they refuse, and what an overlay changes."""

from __future__ import annotations

import copy
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.config import ConvConfig
from mlc_llm.errors import TemplateError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.testing import raises

DATA: dict[str, Any] = {
    "name": "plain",
    "system_template": "<sys>{system_message}</sys>",
    "system_message": "Be brief.",
    "system_prefix_token_ids": [1],
    "add_role_after_system_message": False,
    "system_optional": True,
    "system_in_last_turn": True,
    "roles": {"user": "U", "assistant": "A", "tool": "T"},
    "role_templates": {"user": "u {user_message}", "tool": "t {tool_message}"},
    "messages": [("user", "1+1?"), ("assistant", "2")],
    "seps": ["\n", "</s>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["U:"],
    "stop_token_ids": [2],
    "function_string": "f",
    "use_function_calling": True,
    "strip_reasoning_in_history": True,
    "add_bos": True,
    "has_memory": False,
}

OVERRIDES: dict[str, Any] = {
    "name": "other",
    "system_template": "{system_message}",
    "system_message": "Be kind.",
    "system_prefix_token_ids": [5, 6],
    "add_role_after_system_message": True,
    "messages": [("user", "Hi")],
    "seps": ["; "],
    "role_content_sep": "> ",
    "role_empty_sep": ">",
    "stop_str": ["!"],
    "stop_token_ids": [7],
    "function_string": "g",
    "use_function_calling": False,
    "strip_reasoning_in_history": False,
    "add_bos": False,
}
"""A new value for each field but the two that are laid over role by role."""


def _template(**changes: Any) -> ConversationTemplate:
    return ConversationTemplate.from_data({**DATA, **changes}, "it")


class TestFields:
    def test_every_field_is_kept(self) -> None:
        dumped = _template().model_dump()
        assistant = {"assistant": "{assistant_message}"}  # The one that DATA does not give.
        assert dumped == {**DATA, "role_templates": {**DATA["role_templates"], **assistant}}

    def test_defaults(self) -> None:
        template = ConversationTemplate.from_data({"roles": DATA["roles"], "seps": [""]}, "it")
        assert template.system_template == "{system_message}"
        assert template.add_role_after_system_message
        assert template.has_memory
        assert template.add_bos is None
        assert template.role_templates["tool"] == "{tool_message}"
        assert (template.stop_str, template.stop_token_ids, template.messages) == ([], [], [])

    def test_defaults_are_not_shared(self) -> None:
        first, second = (
            ConversationTemplate.from_data({"roles": DATA["roles"], "seps": [""]}, "it")
            for _ in range(2)
        )
        first.stop_str.append("x")
        first.messages.append(("user", "x"))
        first.role_templates["user"] = "x"
        assert second.stop_str == second.messages == []
        assert second.role_templates["user"] == "{user_message}"

    @pytest.mark.parametrize("name", [name for name in DATA if name not in ("roles", "seps")])
    def test_none_means_not_given(self, name: str) -> None:
        without = {key: value for key, value in DATA.items() if key != name}
        assert _template(**{name: None}) == ConversationTemplate.from_data(without, "it")

    @pytest.mark.parametrize(
        ("old", "new", "value"),
        [
            ("system", "system_message", "Be kind."),
            ("stop_tokens", "stop_token_ids", [3]),
            ("prefix_tokens", "system_prefix_token_ids", [4]),
            ("role_msg_sep", "role_content_sep", "> "),
        ],
    )
    def test_older_spellings(self, old: str, new: str, value: Any) -> None:
        data = {key: item for key, item in DATA.items() if key != new}
        template = ConversationTemplate.from_data({**data, old: value}, "it")
        assert getattr(template, new) == value
        with raises("template-invalid", f"'{old}'", f"'{new}'", error=TemplateError):
            _template(**{old: value})

    def test_what_means_nothing_any_more_is_left_out(self) -> None:
        assert _template(offset=0, separator_style=1) == _template()

    def test_one_stop_string(self) -> None:
        assert _template(stop_str="stop").stop_str == ["stop"]

    @pytest.mark.parametrize("name", ["LM", "codellama_completion"])
    def test_mlcs_templates_without_memory_are_known_by_name(self, name: str) -> None:
        data = {"name": name, "roles": {"user": "", "assistant": ""}, "seps": [""]}
        assert not ConversationTemplate.from_data(data, "it").has_memory
        assert ConversationTemplate.from_data({**data, "has_memory": True}, "it").has_memory


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"stop_strs": []}, ["'stop_strs'", "'stop_str'"]),
            ({"roles": {"user": "U"}}, ["roles", "['assistant']"]),
            ({"roles": None}, ["roles"]),
            ({"roles": "U"}, ["roles", "dictionary"]),
            ({"role_templates": {"usr": "x"}}, ["role_templates", "'usr'", "'user'"]),
            ({"seps": []}, ["seps", 1]),
            ({"seps": ["a", "b", "c"]}, ["seps", 2]),
            ({"stop_token_ids": [-1]}, ["stop_token_ids.0", -1]),
            ({"system_prefix_token_ids": [True]}, ["system_prefix_token_ids.0", "True"]),
            ({"messages": [("user",)]}, ["messages"]),
            ({"system_message": 5}, ["system_message", 5]),
        ],
    )
    def test_with_a_reason(self, changes: dict[str, Any], named: list[str | int]) -> None:
        with raises("template-invalid", *named, error=TemplateError) as error:
            _template(**changes)
        assert str(error.value).startswith("it ")

    @pytest.mark.parametrize("data", [None, [], "plain", 5])
    def test_what_is_no_mapping(self, data: Any) -> None:
        with raises("template-invalid", "it ", error=TemplateError):
            ConversationTemplate.from_data(data, "it")

    def test_a_template_cannot_be_assigned_to(self) -> None:
        with pytest.raises(ValueError, match="frozen"):
            _template().name = "x"


class TestOverlay:
    def test_there_is_a_value_for_every_field(self) -> None:
        by_role, of_ours = {"roles", "role_templates"}, {"has_memory", "system_optional"}
        of_ours |= {"system_in_last_turn"}
        assert OVERRIDES.keys() | by_role | of_ours == DATA.keys()

    @hypothesis.given(st.sets(st.sampled_from(sorted(OVERRIDES))), st.data())
    def test_only_what_is_set_changes(self, chosen: set[str], data: st.DataObject) -> None:
        unset = data.draw(st.sets(st.sampled_from(sorted(OVERRIDES))))
        values = dict.fromkeys(unset) | {name: OVERRIDES[name] for name in chosen}
        template, config = _template(), ConvConfig(**copy.deepcopy(values))
        before = config.model_copy(deep=True)
        changed = {**template.model_dump(), **{name: OVERRIDES[name] for name in chosen}}
        if "system_prefix_token_ids" in chosen and "add_bos" not in chosen:
            changed["add_bos"] = None  # They take the place of all that began the prompt.
        assert template.overlaid(config).model_dump() == changed
        assert template == _template()
        assert config == before
        assert config.model_fields_set == before.model_fields_set

    def test_roles_are_laid_over_one_by_one(self) -> None:
        config = ConvConfig(
            roles={"user": "X"}, role_templates={"assistant": "<{assistant_message}>"}
        )
        template = _template().overlaid(config)
        assert template.roles == {"user": "X", "assistant": "A", "tool": "T"}
        assert template.role_templates == {
            "user": "u {user_message}",
            "assistant": "<{assistant_message}>",
            "tool": "t {tool_message}",
        }

    def test_a_role_for_tools_may_be_added(self) -> None:
        plain = _template(roles={"user": "U", "assistant": "A"})
        assert plain.overlaid(ConvConfig(roles={"tool": "T"})).roles["tool"] == "T"

    @pytest.mark.parametrize("field", ["roles", "role_templates"])
    def test_an_unknown_role_names_the_nearest(self, field: str) -> None:
        config = ConvConfig(**{field: {"asistant": "x"}})
        with raises("template-invalid", "'plain'", f"{field} 'asistant'", "'assistant'"):
            _template().overlaid(config)

    @pytest.mark.parametrize("config", [None, ConvConfig(), ConvConfig(stop_str=["x"])])
    def test_the_copy_shares_nothing(self, config: ConvConfig | None) -> None:
        template = _template()
        copied = template.overlaid(config)
        copied.roles["user"] = "changed"
        copied.role_templates["user"] = "changed"
        copied.stop_str.append("changed")
        copied.messages.append(("user", "changed"))
        assert template == _template()
        assert config is None or config.stop_str in (None, ["x"])

    def test_a_name_does_not_take_the_memory_away(self) -> None:
        assert _template(has_memory=True).overlaid(ConvConfig(name="LM")).has_memory
