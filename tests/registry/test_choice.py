"""Choosing a device: auto's reasons, and names that never fall back."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.errors import DeviceError, PluginError
from mlc_llm.registry.choice import choose_device, device_named, parse_device, sentence
from mlc_llm.registry.registry import Registry, State
from mlc_llm.testing import raises

Site = Any

LACKING = "return Availability(reason='no such card')"
REPAIRABLE = "return Availability(reason='the driver is too old', remedy='update it')"


def fakes(site: Site, **probes: str) -> Registry:
    """A registry with the CPU and fake devices, of falling priority below 300."""
    for i, (name, body) in enumerate(probes.items()):
        site.install_device(name, body, priority=300 - i)
    return Registry(allowed=[f"fake-{name}" for name in probes])


AVAILABLE = "return Availability((Adapter('card'), Adapter('second card')))"
SOFTWARE = "return Availability((Adapter('painter', software=True),))"
SOFTWARE_WITH_REMEDY = (
    "return Availability((Adapter('painter', software=True),), remedy='install it')"
)
BOTH = "return Availability((Adapter('painter', software=True), Adapter('card')))"
MALFORMED = ["", " ", "cpu:", ":0", "cpu:-1", "cpu:one", "cpu:0:0", "auto:1", "c pu", "cpu:1.0"]
MALFORMED += ["cpu:9999999999", "cpu:٣"]


class TestAuto:
    def test_takes_the_available_device_of_highest_priority(self, site: Site) -> None:
        registry = fakes(site, best=LACKING, good=AVAILABLE, fair=AVAILABLE)
        choice = choose_device("auto", registry)
        assert (choice.device.name, choice.index, choice.adapter.name) == ("good", 0, "card")
        assert str(choice) == "good:0"
        reasons = {item.name: item.reason for item in choice.considered}
        assert reasons == {
            "best": "no such card",
            "fair": "good is available and has a higher priority",
            "cpu": "good is available and has a higher priority",
        }
        assert registry.entry("device", "good").state is State.SELECTED

    def test_a_device_below_the_chosen_one_is_not_probed(self, site: Site) -> None:
        assert choose_device("auto", fakes(site, a=AVAILABLE, b="raise KeyboardInterrupt"))

    def test_the_cpu_is_the_last(self, site: Site) -> None:
        assert choose_device("auto", fakes(site, gpu=LACKING)).device.name == "cpu"

    def test_what_can_be_repaired_is_a_warning_and_lacking_hardware_is_not(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "mlc_llm")
        choose_device("auto", fakes(site, old=REPAIRABLE, none=LACKING))
        levels = {record.getMessage(): record.levelname for record in caplog.records}
        assert levels == {
            "Using the device cpu, not old: The driver is too old. Update it.": "WARNING",
            "Using the device cpu, not none: No such card.": "INFO",
        }

    def test_a_broken_plugin_is_passed_over_with_a_warning(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.install("bad", {"devices": {"bad": "nowhere:X"}})
        choice = choose_device("auto", Registry(allowed=["bad"]))
        assert choice.device.name == "cpu"
        assert "nowhere" in choice.considered[0].reason
        assert caplog.records[0].levelno == logging.WARNING

    def test_software_is_passed_over_for_the_cpu(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "mlc_llm")
        registry = fakes(site, soft=SOFTWARE, mended=SOFTWARE_WITH_REMEDY)
        choice = choose_device("auto", registry)
        assert choice.device.name == "cpu"
        levels = {record.getMessage(): record.levelname for record in caplog.records}
        told = "painter is not hardware of its own, but a driver that computes on the CPU."
        assert levels == {
            f"Using the device cpu, not soft: {told[0].upper()}{told[1:]}": "INFO",
            f"Using the device cpu, not mended: P{told[1:]} Install it.": "WARNING",
        }
        assert str(choose_device("soft", registry)) == "soft:0"

    def test_hardware_beside_software_is_taken(self, site: Site) -> None:
        choice = choose_device("auto", fakes(site, soft=SOFTWARE, both=BOTH))
        assert (str(choice), choice.adapter.name) == ("both:1", "card")

    def test_software_is_better_than_nothing(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.install_device("cpu", REPAIRABLE, distribution="no-cpu")
        site.install_device("soft", SOFTWARE, priority=300)
        choice = choose_device("auto", Registry(allowed=["no-cpu", "fake-soft"]))
        assert str(choice) == "soft:0"
        assert [item.name for item in choice.considered] == ["cpu"]
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    def test_nothing_available(self, site: Site) -> None:
        site.install_device("cpu", REPAIRABLE, distribution="no-cpu")
        with raises("device-unavailable", "cpu: The driver is too old. Update it."):
            choose_device("auto", Registry(allowed=["no-cpu"]))
        with raises("device-unavailable"):
            choose_device("auto", Registry(entry_points=[]))

    def test_the_variable_replaces_auto_and_only_auto(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry = fakes(site, gpu=AVAILABLE, old=REPAIRABLE)
        monkeypatch.setenv("MLC_LLM_DEVICE", " gpu:1 ")
        assert str(choose_device("auto", registry)) == "gpu:1"
        assert str(choose_device("cpu", registry)) == "cpu:0"
        monkeypatch.setenv("MLC_LLM_DEVICE", "old")
        with raises("device-unavailable", "'old' (MLC_LLM_DEVICE"):
            choose_device("auto", registry)
        for value in ("auto", ""):
            monkeypatch.setenv("MLC_LLM_DEVICE", value)
            assert str(choose_device("auto", registry)) == "gpu:0"


class TestNamed:
    def test_an_index(self, site: Site) -> None:
        choice = choose_device("gpu:1", fakes(site, gpu=AVAILABLE))
        assert (choice.index, choice.adapter.name, choice.considered) == (1, "second card", ())

    def test_an_index_that_does_not_exist(self, site: Site) -> None:
        with raises("device-index-unknown", "'gpu:2'", "gpu:1 (second card)"):
            choose_device("gpu:2", fakes(site, gpu=AVAILABLE))
        with raises("device-index-unknown", "'cpu:1'"):
            choose_device("cpu:1")

    def test_unavailable_raises_and_never_falls_back(self, site: Site) -> None:
        with raises("device-unavailable", "'old'", "The driver is too old. Update it."):
            choose_device("old", fakes(site, old=REPAIRABLE))

    def test_unknown_and_broken(self, site: Site) -> None:
        with raises("device-unknown", "'cpi'", "'cpu'", error=DeviceError):
            choose_device("cpi")
        site.install("bad", {"devices": {"bad": "nowhere:X"}})
        with raises("plugin-broken", "bad 1.0", error=PluginError):
            choose_device("bad", Registry())

    @pytest.mark.parametrize("name", MALFORMED)
    def test_malformed(self, name: str) -> None:
        with raises("device-name-malformed", repr(name), error=DeviceError):
            choose_device(name)

    @given(st.text(max_size=20))
    def test_any_text_parses_or_is_refused(self, text: str) -> None:
        try:
            name, index = parse_device(text)
        except DeviceError:
            return
        assert text in (name, f"{name}:{index}") or int(text.removeprefix(f"{name}:")) == index


def test_sentence() -> None:
    assert sentence("it is old", "update it.") == "It is old. Update it."
    assert sentence("it is old") == "It is old."
    assert sentence("", "") == ""


class TestNamedWhetherOrNotItIsAvailable:
    def test_a_device_that_is_not_available_is_returned(self, site: Site) -> None:
        registry = fakes(site, broken="raise SystemError('never asked')", missing=LACKING)
        for name in ("broken", "missing", "cpu", "cpu:7"):
            assert device_named(name, registry).name == name.partition(":")[0]

    def test_auto_is_no_name(self, site: Site) -> None:
        with raises("device-unnamed", error=DeviceError):
            device_named("auto", fakes(site, good=AVAILABLE))

    def test_an_unknown_name_is_an_error(self, site: Site) -> None:
        with raises("device-unknown", "cpuu", error=DeviceError):
            device_named("cpuu", fakes(site))
        with raises("device-name-malformed", error=DeviceError):
            device_named("cpu:one", fakes(site))
