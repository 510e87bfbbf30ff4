"""For the authors of plugins: conformance tests, fakes, and small models to try them with.

A conformance suite is a class of pytest tests. Subclass it in a test module and name the plugin::

    from mlc_llm.testing import DeviceConformance

    class TestNPU(DeviceConformance):
        device = NPU()

or run it for an installed plugin by name::

    pytest -p mlc_llm.testing.pytest_plugin --mlc-llm-device npu

Names are imported when they are first used: importing this package imports neither pytest, which
only the suites need, nor TVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_llm._lazy import lazy_names

if TYPE_CHECKING:
    from mlc_llm.testing.architecture import ArchitectureConformance
    from mlc_llm.testing.device import DeviceConformance
    from mlc_llm.testing.fakes import (
        FAKE_TEMPLATE,
        FakeArchitecture,
        FakeDevice,
        FakeProvider,
    )
    from mlc_llm.testing.model_folder import make_checkpoint, make_model_folder
    from mlc_llm.testing.provider import ProviderConformance
    from mlc_llm.testing.raising import raises
    from mlc_llm.testing.reference import LlamaReference
    from mlc_llm.testing.registry import registry_of
    from mlc_llm.testing.source import SourceConformance
    from mlc_llm.testing.template import TemplateConformance

_HOMES = {
    "ArchitectureConformance": "architecture",
    "DeviceConformance": "device",
    "FAKE_TEMPLATE": "fakes",
    "FakeArchitecture": "fakes",
    "FakeDevice": "fakes",
    "FakeProvider": "fakes",
    "LlamaReference": "reference",
    "ProviderConformance": "provider",
    "SourceConformance": "source",
    "TemplateConformance": "template",
    "make_checkpoint": "model_folder",
    "make_model_folder": "model_folder",
    "raises": "raising",
    "registry_of": "registry",
}

__all__ = [
    "FAKE_TEMPLATE",
    "ArchitectureConformance",
    "DeviceConformance",
    "FakeArchitecture",
    "FakeDevice",
    "FakeProvider",
    "LlamaReference",
    "ProviderConformance",
    "SourceConformance",
    "TemplateConformance",
    "make_checkpoint",
    "make_model_folder",
    "raises",
    "registry_of",
]


__getattr__ = lazy_names(
    __name__, {name: f"mlc_llm.testing.{home}" for name, home in _HOMES.items()}
)
