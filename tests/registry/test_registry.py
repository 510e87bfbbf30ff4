"""Discovery, isolation and look-up, with distributions that are really found on sys.path."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.errors import DeviceError, PluginError, TemplateError
from mlc_llm.registry.discovery import Allowed
from mlc_llm.registry.registry import PluginEntry, Registry, State
from mlc_llm.testing import raises
from mlc_llm.version import INTERFACE_VERSION

Site = Any
"""The fixture's class; test modules cannot import from conftest.py."""

TEMPLATE = """
TEMPLATE = {"roles": {"user": "U", "assistant": "A"}, "seps": ["\\n"]}
"""
GOOD = "\nDEVICE = FakeDevice()\n"


def entry_of(registry: Registry, name: str) -> PluginEntry:
    (entry,) = [entry for entry in registry.entries() if entry.name == name]
    return entry


class TestDiscovery:
    def test_names_are_listed_without_importing(self, site: Site) -> None:
        site.install("eager", {"devices": {"eager": "eager_module:X"}}, {"eager_module": "1/0"})
        registry = Registry()
        assert "eager" in registry.names("device")
        assert "eager" in registry.names("mlc_llm.devices")
        assert "eager_module" not in sys.modules
        assert entry_of(registry, "eager").state is State.DISCOVERED

    def test_the_cores_own_plugins_are_ordinary_entries(self, site: Site) -> None:
        registry = Registry()
        assert "cpu" in registry.names("device")
        assert {"file", "jit", "prebuilt"} <= set(registry.names("library provider"))
        assert {"llama", "mistral"} <= set(registry.names("architecture"))
        assert {"LM", "llama-2"} <= set(registry.names("conversation template"))

    def test_unknown_kind(self, site: Site) -> None:
        with raises("plugin-unknown", "'devise'", "'device'", error=PluginError):
            Registry().names("devise")

    def test_unreadable_metadata_hides_no_other_distribution(self, site: Site) -> None:
        info = site.install("binary", {"devices": {"a": "b:c"}})
        (info / "entry_points.txt").write_bytes(b"[mlc_llm.devices]\n\xff\xfe = x:y\n")
        site.install("torn", "[mlc_llm.devices]\nno equals sign\n")
        site.install_device("good")
        registry = Registry()
        assert registry.device("good").name == "good"
        problems = "\n".join(registry.problems)
        assert "binary-1.0.dist-info" in problems
        assert "torn-1.0.dist-info" in problems

    def test_a_distribution_without_name_and_version(self, site: Site) -> None:
        site.install("ghost", {"devices": {"ghost": "nowhere:X"}}, metadata="")
        entry = entry_of(Registry(), "ghost")
        assert (entry.distribution, entry.version) == ("(unnamed distribution)", "")

    def test_metadata_beyond_ascii(self, site: Site) -> None:
        site.install("größe", {"devices": {"gerät": "kein_modul:X"}}, version="1.0")
        registry = Registry()
        assert "gerät" in registry.names("device")
        with raises("plugin-broken", "größe 1.0"):
            registry.device("gerät")

    def test_the_first_distribution_of_a_name_on_the_path_hides_later_ones(
        self, site: Site, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.install_device("twice", distribution="same-name")
        second = type(site)(tmp_path / "second")
        second.install("Same.Name", {"devices": {"twice": "module_two:X"}}, version="2.0")
        monkeypatch.setattr(sys, "path", [*sys.path, str(second.folder)])
        assert Registry().device("twice").name == "twice"


BROKEN = {
    "raises": ("raise RuntimeError('no such card')", "RuntimeError: no such card"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "base exception": (
        "class Odd(BaseException): ...\nraise Odd('odd')",
        "Odd: odd",
    ),
    "unspeakable": (
        "class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd",
        "its text cannot be shown",
    ),
    "missing attribute": ("OTHER = 1", "has no attribute 'DEVICE'"),
    "wrong type": ("DEVICE = 7", "an object of type int, but must give"),
    "wrong class": ("class DEVICE: ...", "the class DEVICE, but must give"),
    "abstract": (
        "from mlc_llm.plugin import Device as DEVICE",
        "TypeError: Can't instantiate abstract class",
    ),
    "syntax": ("def", "SyntaxError"),
}


class TestBrokenPlugins:
    @pytest.mark.parametrize("case", BROKEN)
    def test_is_recorded_and_takes_nobody_else_down(self, site: Site, case: str) -> None:
        source, reason = BROKEN[case]
        site.install(
            "bad-plugin", {"devices": {"bad": "bad_module:DEVICE"}}, {"bad_module": source}
        )
        site.install_device("good")
        registry = Registry()
        with raises("plugin-broken", "bad-plugin 1.0", reason, error=PluginError):
            registry.device("bad")
        entry = entry_of(registry, "bad")
        assert reason in entry.reason
        assert "Traceback" in entry.traceback
        assert entry.state in (State.DISCOVERED, State.LOADED)
        assert registry.device("good").name == "good"

    def test_missing_module_and_malformed_value(self, site: Site) -> None:
        site.install("lost", {"devices": {"lost": "nowhere_at_all:X", "odd": "not a value!"}})
        registry = Registry()
        with raises("plugin-broken", "'nowhere_at_all'"):
            registry.device("lost")
        with raises("plugin-broken", "'odd'"):
            registry.device("odd")

    @pytest.mark.parametrize("version", [INTERFACE_VERSION, INTERFACE_VERSION - 1])
    def test_accepted_interface_versions(self, site: Site, version: int) -> None:
        site.install_device("near", extra=f"\nFakeDevice.interface_version = {version}")
        assert Registry().device("near").interface_version == version

    @pytest.mark.parametrize(
        ("version", "remedy"),
        [
            (INTERFACE_VERSION + 1, "update mlc-llm"),
            (INTERFACE_VERSION - 2, "update the plugin"),
            ("'1'", "update the plugin"),
            (True, "update the plugin"),
            (None, "update the plugin"),
        ],
    )
    def test_refused_interface_versions(self, site: Site, version: object, remedy: str) -> None:
        site.install_device("far", extra=f"\nFakeDevice.interface_version = {version}")
        registry = Registry()
        with raises("plugin-broken", remedy, error=PluginError):
            registry.device("far")
        assert entry_of(registry, "far").state is State.LOADED

    @pytest.mark.parametrize(
        ("extra", "reason"),
        [
            ("del FakeDevice.name", "it has no name"),
            ("FakeDevice.name = 'other'", "it has the name 'other'"),
            ("FakeDevice.priority = 'high'", "its priority is 'high'"),
            ("FakeDevice.priority = property(lambda self: 1/0)", "ZeroDivisionError"),
            ("def DEVICE(): ...", "an object of type function"),
        ],
    )
    def test_wrong_attributes(self, site: Site, extra: str, reason: str) -> None:
        site.install_device("wrong", extra="\n" + extra)
        with raises("plugin-broken", reason, error=PluginError):
            Registry().device("wrong")

    def test_ctrl_c_while_importing_is_the_users_and_not_a_failure(self, site: Site) -> None:
        source = "import builtins\nif not hasattr(builtins, 'second_try'): raise KeyboardInterrupt"
        site.install_device("slow", extra="\n" + source)
        registry = Registry()
        with pytest.raises(KeyboardInterrupt):
            registry.device("slow")
        assert entry_of(registry, "slow").state is State.DISCOVERED
        import builtins

        builtins.second_try = True  # type: ignore[attr-defined]
        try:
            assert registry.device("slow").name == "slow"
        finally:
            del builtins.second_try  # type: ignore[attr-defined]

    def test_a_failure_is_not_tried_again(self, site: Site) -> None:
        counting = "import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\nraise ValueError"
        site.install(
            "c", {"devices": {"counted": "counting_module:X"}}, {"counting_module": counting}
        )
        registry = Registry()
        try:
            for _ in range(3):
                with pytest.raises(PluginError):
                    registry.device("counted")
            assert sys.counted == 1  # type: ignore[attr-defined]
        finally:
            del sys.counted  # type: ignore[attr-defined]

    def test_a_plugin_that_asks_for_itself_at_import(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = "from mlc_llm.registry import registry\nregistry.default_registry().device('loop')"
        site.install("loop", {"devices": {"loop": "loop_module:X"}}, {"loop_module": source})
        registry = Registry()
        monkeypatch.setattr("mlc_llm.registry.registry._default", registry)
        with raises("plugin-broken", "'loop'", "itself"):
            registry.device("loop")

    def test_load_all_records_and_warns(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.install("bad", {"devices": {"bad": "bad_one:X"}}, {"bad_one": "1/0"})
        registry = Registry()
        registry.load_all()
        registry.load_all()
        assert caplog.text.count("ZeroDivisionError") == 1
        assert entry_of(registry, "cpu").state is State.COMPATIBLE


class TestTwoOfOneName:
    @pytest.fixture
    def two(self, site: Site) -> Site:
        site.install_device("twin", distribution="first-dist", extra="\nDEVICE.origin = 'first'")
        site.install_device("twin", distribution="second-dist", extra="\nDEVICE.origin = 'second'")
        return site

    def test_asking_names_both_distributions(self, two: Site) -> None:
        registry = Registry()
        assert registry.names("device").count("twin") == 1
        parts = ("first-dist 1.0", "second-dist 1.0", "MLC_LLM_PLUGINS=first-dist:twin")
        with raises("plugin-ambiguous", *parts, error=PluginError):
            registry.device("twin")
        assert registry.device("cpu").name == "cpu"

    @pytest.mark.parametrize(
        ("value", "origin"),
        [
            ("second-dist", "second"),
            ("Second_Dist:twin", "second"),
            ("first-dist, second-dist:twin", "second"),
            ("first-dist:twin,second-dist", "first"),
        ],
    )
    def test_the_variable_chooses(
        self, two: Site, monkeypatch: pytest.MonkeyPatch, value: str, origin: str
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PLUGINS", value)
        device: Any = Registry().device("twin")
        assert device.origin == origin

    def test_the_core_gives_way_to_a_listed_plugin_only(self, site: Site) -> None:
        site.install_device("cpu", distribution="fast-cpu", extra="\nDEVICE.fast = True")
        with raises("plugin-ambiguous", "fast-cpu 1.0, mlc-llm "):
            Registry().device("cpu")
        assert hasattr(Registry(allowed=["fast-cpu"]).device("cpu"), "fast")
        assert not hasattr(Registry(allowed=["mlc-llm:cpu", "fast-cpu"]).device("cpu"), "fast")
        assert not hasattr(Registry(allowed=[]).device("cpu"), "fast")

    def test_none_leaves_only_the_cores_own(
        self, two: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PLUGINS", "none")
        registry = Registry()
        assert registry.names("device") == ["cpu"]
        assert "llama-2" in registry.names("conversation template")
        with raises("plugin-left-out", "MLC_LLM_PLUGINS", "'first-dist'", error=DeviceError):
            registry.device("twin")

    @pytest.mark.parametrize("value", ["a:b:c", ":name", "dist:", "none,dist"])
    def test_a_malformed_list(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PLUGINS", value)
        with raises("plugin-list-malformed", "MLC_LLM_PLUGINS", error=PluginError):
            Registry()

    def test_a_listed_name_that_matches_nothing_is_warned_of(
        self, two: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("MLC_LLM_PLUGINS", "frist-dist")
        assert "Did you mean 'first-dist'" in Registry().problems[0]
        assert caplog.records[0].levelno == logging.WARNING

    @given(st.lists(st.text(max_size=12), max_size=4))
    def test_any_list_is_taken_or_refused(self, items: list[str]) -> None:
        with contextlib.suppress(PluginError):
            Allowed(items)


class TestLookUp:
    def test_a_gpu_that_is_not_installed_says_how_to_install_it(self) -> None:
        registry = Registry(entry_points=[])
        for name in ("cuda", "vulkan", "metal"):
            with raises("device-not-installed", f"pip install mlc-llm[{name}]", error=DeviceError):
                registry.device(name)

    def test_unknown_names_raise_by_kind_and_name_the_nearest(self, site: Site) -> None:
        registry = Registry()
        with raises("device-unknown", "'cpu'", error=DeviceError):
            registry.device("cppu")
        with raises("template-unknown", "'llama-2'", error=TemplateError):
            registry.template("llama2")
        with raises("architecture-unknown", "'mistral'", error=PluginError):
            registry.architecture("mistal")
        with raises("plugin-unknown", "'prebuilt'", error=PluginError):
            registry.provider("prebuild")

    def test_a_class_is_made_without_arguments(self, site: Site) -> None:
        site.install_device("made", extra="\nDEVICE = FakeDevice")
        registry = Registry()
        assert registry.device("made") is registry.device("made")

    def test_state_goes_on_and_never_back(self, site: Site) -> None:
        site.install_device("d")
        registry = Registry()
        registry.device("d")
        assert entry_of(registry, "d").state is State.COMPATIBLE
        registry.mark("device", "d", State.SELECTED)
        registry.mark("device", "d", State.AVAILABLE)
        assert entry_of(registry, "d").state is State.SELECTED

    def test_templates(self, site: Site) -> None:
        source = TEMPLATE + "NAMED = {**TEMPLATE, 'name': 'own'}\nBAD = {'roles': {}}\nTEXT = 'x'"
        names = {"plain": "TEMPLATE", "named": "NAMED", "bad": "BAD", "text": "TEXT"}
        entries = {name: f"template_module:{value}" for name, value in names.items()}
        site.install(
            "chat-formats", {"conversation_templates": entries}, {"template_module": source}
        )
        registry = Registry()
        assert registry.template("plain").name == "plain"
        assert registry.template("named").name == "own"
        assert entry_of(registry, "plain").state is State.SELECTED
        with raises("plugin-broken", "'bad'", "seps"):
            registry.template("bad")
        with raises("plugin-broken", "'text'", "mapping"):
            registry.template("text")

    def test_an_architecture_class(self, site: Site) -> None:
        source = (
            "from mlc_llm.plugin import Architecture\n"
            "class New(Architecture):\n"
            "    name = 'new'\n"
            "    def config(self, data): ...\n"
            "    def attention(self, config): ...\n"
            "    def module(self, config, dtype): ...\n"
            "    def weights(self, config): ...\n"
        )
        site.install("new", {"architectures": {"new": "new_module:New"}}, {"new_module": source})
        assert Registry().architecture("new").name == "new"

    def test_explicit_entry_points_replace_discovery(self) -> None:
        entry = EntryPoint("cpu", "mlc_llm.device.cpu:CPU", "mlc_llm.devices")
        other = EntryPoint("x", "y:z", "console_scripts")
        registry = Registry(entry_points=[entry, other])
        assert [e.name for e in registry.entries()] == ["cpu"]
        assert registry.device("cpu").name == "cpu"

    def test_eight_threads_import_a_plugin_once(self, site: Site) -> None:
        site.install_device("shared", extra="\nFakeDevice.made = []\nDEVICE = FakeDevice")
        site.install(
            "counter",
            {"devices": {"many": "many_module:make"}},
            {"many_module": "1/0"},
        )
        registry = Registry()
        barrier = threading.Barrier(8)
        results: list[object] = []

        def work() -> None:
            barrier.wait()
            results.append(registry.device("shared"))
            try:
                registry.device("many")
            except PluginError as error:
                results.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 16
        assert len({id(r) if not isinstance(r, str) else r for r in results}) == 2


SOURCE_MODULE = """
from mlc_llm.plugin import SourceFormat

class Format(SourceFormat):
    name = {name!r}
    order = {order!r}
    description = "a test"

    def recognizes(self, path):
        return False

    def open(self, path, architectures):
        raise NotImplementedError
"""


class TestSources:
    def test_the_cores_own_are_ordinary_entries(self, site: Site) -> None:
        registry = Registry()
        assert registry.names("source") == ["gguf", "safetensors", "torch"]
        assert [one.name for one in registry.source_formats()] == ["safetensors", "torch", "gguf"]

    def test_they_are_asked_in_their_order(self, site: Site) -> None:
        for name, order in [("late", 60), ("early", 1)]:
            module = SOURCE_MODULE.format(name=name, order=order)
            site.install(
                name, {"sources": {name: f"{name}_module:Format"}}, {f"{name}_module": module}
            )
        names = [one.name for one in Registry().source_formats()]
        assert (names[0], names[-1]) == ("early", "late")

    @pytest.mark.parametrize(
        ("module", "reason"),
        [
            ("1/0", "ZeroDivisionError"),
            ("Format = 3", "SourceFormat"),
            (SOURCE_MODULE.format(name="other", order=1), "'other'"),
            (SOURCE_MODULE.format(name="odd", order="first"), "'first'"),
        ],
    )
    def test_a_broken_one_stops_no_other(
        self, site: Site, caplog: pytest.LogCaptureFixture, module: str, reason: str
    ) -> None:
        site.install("odd", {"sources": {"odd": "odd_module:Format"}}, {"odd_module": module})
        registry = Registry()
        with caplog.at_level(logging.WARNING, "mlc_llm"):
            names = [one.name for one in registry.source_formats()]
        assert names == ["safetensors", "torch", "gguf"]
        assert reason in caplog.text
        assert reason in entry_of(registry, "odd").reason
