"""Library providers: their order, their hooks, and those that misbehave."""

from __future__ import annotations

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
    return {a.provider: a.error or a.value for a in answers if a.provider not in own}


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
        hook = Registry().providers().mlc_llm_find_library
        # pluggy keeps what is called last first.
        order = [impl.plugin_name for impl in reversed(hook.get_hookimpls())]
        assert order == ["file", "mine", "prebuilt", "jit"]

    def test_the_relay_answers_with_the_first(self, site: Site, registry_of: Any) -> None:
        install(site, "b", "return Found(Path('b'), 'b')", "order = 2")
        install(site, "a", "return Found(Path('a'), 'a')", "order = 1")
        found = registry_of().providers().mlc_llm_find_library(request=request_())
        assert found == Found(Path("a"), "a")


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


class TestEvents:
    def test_everybody_is_told_and_one_that_raises_is_warned_of(
        self, site: Site, registry_of: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        listener = (
            "\nclass Listener:\n    heard = []\n    @hookimpl\n"
            "    def mlc_llm_chat_closed(self, chat):\n        {}\n"
            "PROVIDER = Listener()"
        )
        install(site, "deaf", extra=listener.format("1/0"))
        install(site, "keen", extra=listener.format("self.heard.append(chat)"))
        install(site, "provider")
        registry = registry_of()
        registry.notify("mlc_llm_chat_closed", chat="a chat")
        assert registry.provider("keen").heard == ["a chat"]
        assert "ZeroDivisionError" in caplog.text
