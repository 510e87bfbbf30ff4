"""Library providers and observers: their order, their hooks, and those that misbehave."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.plugin import Found, LibraryRequest, ModelSpec, NotFound
from mlc_llm.quantization import plan
from mlc_llm.registry.registry import Registry

Site = Any

PROVIDER = """
from pathlib import Path
from mlc_llm.plugin import Found, NotFound, hookimpl

class Provider:
    {attributes}

    @hookimpl
    def mlc_llm_find_library(self{parameters}):
        {body}

PROVIDER = Provider()
"""


def request_() -> LibraryRequest:
    spec = ModelSpec(architecture="llama", shape={}, plan=plan("q0f32"))
    return LibraryRequest(spec, "cpu", {"kind": "llvm"}, Path("model"))


def install(
    site: Site,
    name: str,
    body: str = "return None",
    attributes: str = "pass",
    parameters: str = ", request",
    extra: str = "",
    distribution: str | None = None,
) -> None:
    distribution = distribution or f"lib-{name}"
    module = f"provider_{distribution.replace('-', '_')}"
    source = PROVIDER.format(attributes=attributes, parameters=parameters, body=body) + extra
    site.install(distribution, {"model_libraries": {name: f"{module}:PROVIDER"}}, {module: source})


def ask(registry: Registry) -> Mapping[str, Any]:
    """Every provider's answer by its name, in the order of asking; the core's own left out."""
    answers = registry.ask("mlc_llm_find_library", request=request_())
    own = ("file", "prebuilt", "jit")
    return {a.plugin: a.error or a.value for a in answers if a.plugin not in own}


@pytest.fixture
def registry_of(site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry in which no provider of the core searches this machine."""

    def make() -> Registry:
        registry = Registry()
        for plugin in registry._plugins:
            if plugin.candidate.distribution == "mlc-llm":
                plugin.active = plugin.candidate.kind.word != "library provider"
        return registry

    return make


class TestOrder:
    def test_lower_order_is_asked_first_and_the_default_is_50(
        self, site: Site, registry_of: Any
    ) -> None:
        install(site, "late", attributes="order = 90")
        install(site, "plain")
        install(site, "early", attributes="order = -5")
        install(site, "another")
        assert list(ask(registry_of())) == ["early", "another", "plain", "late"]

    def test_third_parties_stand_between_the_cores_own(self, site: Site) -> None:
        install(site, "mine")
        replies = Registry().ask("mlc_llm_find_library", request=request_())
        assert [reply.plugin for reply in replies] == ["file", "mine", "prebuilt", "jit"]


class TestMisbehaviour:
    def test_a_provider_that_raises_is_recorded_and_the_next_is_asked(
        self, site: Site, registry_of: Any
    ) -> None:
        install(site, "boom", "raise OSError('disk on fire')", "order = 1")
        install(site, "leaves", "import sys; sys.exit(2)", "order = 2")
        install(site, "fine", "return Found(Path('x'), 'fine')", "order = 3")
        registry = registry_of()
        answers = ask(registry)
        assert answers["boom"] == "lib-boom 1.0 raised OSError: disk on fire"
        assert answers["leaves"] == "lib-leaves 1.0 raised SystemExit: 2"
        assert answers["fine"] == Found(Path("x"), "fine")
        (entry,) = [e for e in registry.entries() if e.name == "boom"]
        assert "disk on fire" in entry.reason
        assert "Traceback" in entry.traceback

    def test_ctrl_c_is_the_users(self, site: Site, registry_of: Any) -> None:
        install(site, "boom", "raise KeyboardInterrupt")
        with pytest.raises(KeyboardInterrupt):
            ask(registry_of())

    def test_not_found_does_not_end_the_search(self, site: Site, registry_of: Any) -> None:
        install(site, "a", "return NotFound('a', (('here', 'too old'),))", "order = 1")
        install(site, "b", "return None", "order = 2")
        answers = ask(registry_of())
        assert answers == {"a": NotFound("a", (("here", "too old"),)), "b": None}

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"parameters": ", request, more"}, "a hook of it is wrong"),
            ({"parameters": ", wish"}, "a hook of it is wrong"),
            ({"attributes": "order = 'first'"}, "its order is 'first', not an integer"),
            ({"attributes": "order = True"}, "its order is True, not an integer"),
            ({"attributes": "name = 'other'"}, "its name is 'other'"),
            ({"attributes": "interface_version = 99"}, "update mlc-llm"),
            ({"extra": "\nPROVIDER = 3"}, "without any hook"),
            ({"extra": "\nclass Provider:\n    def __init__(self, x): ...\nPROVIDER = Provider"},
             "TypeError"),
            (
                {
                    "extra": "\nclass Typo:\n    @hookimpl\n"
                    "    def mlc_llm_find_librar(self): ...\nPROVIDER = Typo()"
                },
                "unknown hook 'mlc_llm_find_librar'",
            ),
        ],
    )  # fmt: skip
    def test_a_wrong_provider_is_left_out(
        self,
        site: Site,
        registry_of: Any,
        caplog: pytest.LogCaptureFixture,
        change: Any,
        reason: str,
    ) -> None:
        install(site, "wrong", **change)
        install(site, "right")
        registry = registry_of()
        assert list(ask(registry)) == ["right"]
        assert reason in caplog.text
        (entry,) = [e for e in registry.entries() if e.name == "wrong"]
        assert reason in entry.reason

    def test_two_of_one_name_are_both_left_out(
        self, site: Site, registry_of: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        install(site, "same", distribution="one")
        install(site, "same", distribution="two")
        install(site, "other")
        assert list(ask(registry_of())) == ["other"]
        assert "one 1.0, two 1.0" in caplog.text

    def test_one_object_under_two_names_is_asked_once(
        self, site: Site, registry_of: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        install(site, "a")
        site.install("again", {"model_libraries": {"b": "provider_lib_a:PROVIDER"}})
        assert len(ask(registry_of())) == 1
        assert "already registered" in caplog.text


OBSERVER = """
from mlc_llm.plugin import hookimpl

class Observer:
    heard = []

    @hookimpl
    def {hook}(self{parameters}):
        {body}

OBSERVER = Observer()
"""


def observe(
    site: Site, name: str, body: str, hook: str = "mlc_llm_chat_closed", parameters: str = ", chat"
) -> None:
    module = f"observer_{name}"
    source = OBSERVER.format(hook=hook, parameters=parameters, body=body)
    site.install(f"obs-{name}", {"observers": {name: f"{module}:OBSERVER"}}, {module: source})


class TestObservers:
    def test_each_is_told_and_one_that_raises_is_warned_of(
        self, site: Site, registry_of: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        observe(site, "deaf", "1/0")
        observe(site, "keen", "self.heard.append(chat)")
        install(site, "provider", "raise AssertionError('a provider is not an observer')")
        registry = registry_of()
        registry.notify("mlc_llm_chat_closed", chat="a chat")
        assert sys.modules["observer_keen"].OBSERVER.heard == ["a chat"]
        assert "'deaf' failed in mlc_llm_chat_closed" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"hook": "mlc_llm_chat_opened"}, "unknown hook"),
            ({"parameters": ", talk"}, "talk"),
            ({"hook": "mlc_llm_find_library", "parameters": ", request"}, "unknown hook"),
        ],
    )
    def test_wrong_hooks_are_recorded(
        self, site: Site, registry_of: Any, change: dict[str, str], reason: str
    ) -> None:
        observe(site, "wrong", "pass", **change)
        registry = registry_of()
        registry.notify("mlc_llm_chat_closed", chat="a chat")
        assert reason in registry.entry("observer", "wrong").reason

    def test_an_object_without_hooks_names_those_of_its_kind(
        self, site: Site, registry_of: Any
    ) -> None:
        site.install(
            "obs-none", {"observers": {"none": "observer_none:X"}}, {"observer_none": "X = 1"}
        )
        registry = registry_of()
        registry.notify("mlc_llm_chat_closed", chat="a chat")
        reason = registry.entry("observer", "none").reason
        assert "mlc_llm_chat_closed, mlc_llm_chat_generated, mlc_llm_chat_loaded" in reason
        assert "find_library" not in reason
