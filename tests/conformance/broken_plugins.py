"""Plugins with one mistake each, in their suites. ``test_suites.py`` runs them and sees them fail.

Not collected by itself: its name is none of a test module.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlc_llm.library.cache import LibraryCache
from mlc_llm.model.llama import LLAMA, LlamaConfig
from mlc_llm.plugin import (
    AttentionSpec,
    Availability,
    Found,
    LibraryRequest,
    NotFound,
    Rope,
    Weight,
    hookimpl,
)
from mlc_llm.testing import (
    FAKE_TEMPLATE,
    ArchitectureConformance,
    DeviceConformance,
    FakeArchitecture,
    FakeDevice,
    FakeProvider,
    LlamaReference,
    ProviderConformance,
    TemplateConformance,
    make_checkpoint,
)
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.workbench import Workbench

# Templates


def changed(**fields: Any) -> dict[str, Any]:
    return {**FAKE_TEMPLATE, **fields}


class TestLosesText(TemplateConformance):
    template = changed(role_templates={"user": "Hello!"})


class TestRepeatsText(TemplateConformance):
    template = changed(role_templates={"user": "{user_message} {user_message}"})


class TestLosesAnswers(TemplateConformance):
    template = changed(role_templates={"assistant": "(answered)"})


class TestLosesWhatToolsSay(TemplateConformance):
    template = changed(role_templates={"tool": "(called)"})


class TestLosesSystemMessage(TemplateConformance):
    template = changed(system_template="<system>Be kind.</system>")


class TestMisspeltPlaceholder(TemplateConformance):
    template = changed(system_template="{sytem_message}", system_message="")


class TestNobodySpeaks(TemplateConformance):
    template = changed(roles={"user": "#", "assistant": "#"})


class TestNeverStops(TemplateConformance):
    template = changed(stop_str=[])


class TestIsNoJSON(TemplateConformance):
    template = changed(stop_str={"</>"})


class TestIsNoTemplate(TemplateConformance):
    template: ClassVar = {"roles": {"user": "User"}, "seps": ["\n"]}


class TestLosesTextWithoutMemory(TemplateConformance):
    template = changed(has_memory=False, role_templates={"user": "Hello!"})


# Devices


class WrongAngles:
    """The CPU's compiler half, with another base of RoPE."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> Any:
        assert spec.rope is not None
        frequencies = tuple(1.01 * frequency for frequency in spec.rope.frequencies)
        wrong = replace(spec, rope=Rope(frequencies))
        return self._codegen.attention(wrong, dtype, activation_dtype)


class OffDevice(FakeDevice):
    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> Any:
        return WrongAngles(super().codegen(target, opt))


class TestIsOff(DeviceConformance):
    device = OffDevice("off")
    tolerances: ClassVar = {"q0f32": 0.05}


class TestHasAReservedName(DeviceConformance):
    device = FakeDevice("auto")


class TestGivesNoReason(DeviceConformance):
    device = FakeDevice("silent", adapters=0)


class RaisingProbe(FakeDevice):
    def probe(self) -> Availability:
        raise RuntimeError("the driver is too old")


class TestRaisesWhenProbed(DeviceConformance):
    device = RaisingProbe()


class EndlessDevice(FakeDevice):
    def open(self, index: int) -> Any:
        return super().open(0)

    def target(self, index: int = 0) -> dict[str, Any]:
        return {**super().target(), "keys": ("cpu",)}

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> Any:
        return super().codegen(target, {})

    def mismatch(self, record: Any, target: Any) -> str | None:
        return None


class TestOpensAnything(DeviceConformance):
    device = EndlessDevice("endless")
    tolerances: ClassVar = {"q0f32": 0.05}


# Library providers


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, libraries: LibraryCache) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("broken"), libraries)


class OfOneLibrary(ProviderConformance):
    @pytest.fixture
    def workbench(self, bench: Workbench) -> Workbench:
        return bench

    @pytest.fixture
    def served(self, small: LibraryRequest, workbench: Workbench) -> LibraryRequest:
        self.provider.files[:] = [workbench.library(small.model_path, LLAMA, self.device)]
        return small


class Careless(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Any:
        return Found(self.files[0], self.name)


class TestAnyModelsLibrary(OfOneLibrary):
    provider = Careless()


class Empty(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Any:
        return NotFound(self.name, (("my shelf", ""),))


class TestServesNobody(OfOneLibrary):
    provider = Empty()


class Raising(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Any:
        return {}[request.spec.architecture]


class TestRaises(OfOneLibrary):
    provider = Raising()


class Nameless(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Any:
        return Found(self.files[0], "somebody")


class TestIsSomebodyElse(OfOneLibrary):
    provider = Nameless()


class WrongHook(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, model: Any) -> Any:  # type: ignore[override]
        return None


class TestHasAnotherSignature(ProviderConformance):
    provider = WrongHook()


class Vague(FakeProvider):
    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Any:
        return str(request.model_path)


class TestAnswersWithText(OfOneLibrary):
    provider = Vague()


# Architectures


class OfLlama(ArchitectureConformance):
    @pytest.fixture
    def reference(self, checkpoint: Path) -> Logits:
        return LlamaReference(checkpoint)


class Swapped(FakeArchitecture):
    def weights(self, config: LlamaConfig) -> list[Weight]:
        return [
            dataclasses.replace(weight, sources=weight.sources[::-1])
            if "gate_up" in weight.name
            else weight
            for weight in super().weights(config)
        ]


class TestSwapsWeights(OfLlama):
    architecture = Swapped()


class Forgetful(FakeArchitecture):
    def weights(self, config: LlamaConfig) -> list[Weight]:
        return super().weights(config)[1:]


class TestForgetsAWeight(OfLlama):
    architecture = Forgetful()


class NarrowConfig(LlamaConfig):
    def shape(self) -> dict[str, Any]:
        return {key: value for key, value in super().shape().items() if "eps" not in key}

    def model_dump(self, **options: Any) -> dict[str, Any]:
        dumped = super().model_dump(**options)
        return {**dumped, "rms_norm_eps": round(dumped["rms_norm_eps"], 3)}


class Tolerant(FakeArchitecture):
    """Reads anything, and writes half of it."""

    def config(self, data: Mapping[str, Any]) -> LlamaConfig:
        sizes = re.findall(r"\d+", str(data.get("hidden_size", 64)))
        return NarrowConfig.model_validate(
            {
                "num_attention_heads": 2,
                "vocab_size": 9,
                "context_window_size": 8,
                "intermediate_size": 8,
                "rms_norm_eps": 1e-3,
                **data,
                "num_hidden_layers": data.get("num_hidden_layers") or 1,
                "hidden_size": int(sizes[0]) if sizes else 64,
            }
        )


class TestReadsAnything(OfLlama):
    architecture = Tolerant()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return make_checkpoint(tmp_path / "llama", model_type="llama")
