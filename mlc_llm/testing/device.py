"""Conformance tests for a device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.errors import MLCError
from mlc_llm.library.record import read_record
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import Adapter, Availability, Device, Plan, Unavailable
from mlc_llm.quantization import PLANS
from mlc_llm.registry.choice import AUTO, parse_device
from mlc_llm.registry.probing import probe_here
from mlc_llm.testing.random_weight import READ_SCHEMES
from mlc_llm.testing.reference import LlamaReference, Logits
from mlc_llm.testing.registry import registry_of
from mlc_llm.testing.suite import Suite
from mlc_llm.testing.workbench import Workbench, largest_error, prompt, replay

IMPOSSIBLE_FEATURE = "no-such-cpu-feature"

TOLERANCES: Mapping[str, float] = {
    "q0f32": 1e-3,
    "q0f16": 5e-2,
    "q3f16_1": 5e-2,
    "q4f16_0": 5e-2,
    "q4f16_1": 5e-2,
    "q4f16_m": 5e-2,
    "q4f32_1": 1e-2,
    "q8f16_16": 5e-2,
    "q8f16_32": 5e-2,
}


LAYER_TOLERANCE = 1e-2
"""How far a result of a single layer may be off, in standard deviations of the results."""


class DeviceConformance(Suite):
    """Tests of a device. Subclass it and set :attr:`device`.

    Those that need the hardware are skipped, with the device's own reason, where it is not there.
    """

    device: Device
    """The device."""

    tolerances: Mapping[str, float] = TOLERANCES
    """How far a logit may be off, in standard deviations of the logits, by quantisation. One that
    is not listed is not tried."""

    @pytest.fixture
    def available(self) -> Device:
        """The device; the test is skipped where the device is not available."""
        answer = _answer(self.device)
        if not answer.available:
            pytest.skip(f"the device {self.device.name!r} is not available: {answer.reason}")
        return self.device

    def expected(self, workbench: Workbench, quantization: str) -> Logits:
        """What the small model's logits must be: those of the CPU; for it, those of NumPy.

        Args:
            workbench: where small models are made.
            quantization: the quantisation's name.
        """
        if self.device.name == CPU.name:
            return LlamaReference(workbench.checkpoint(), quantization)
        return replay(workbench.load(_folder(workbench, quantization), LLAMA, CPU))

    def test_name(self) -> None:
        """It can be named where devices are named, and the registry takes it."""
        name = self.device.name
        assert name != AUTO, "'auto' is the word for the best device"
        assert parse_device(name) == (name, 0), f"{name!r} cannot be told from 'name:index'"
        assert registry_of(devices={name: self.device}).device(name) is self.device

    def test_probe(self) -> None:
        """It says what there is, or why there is nothing; the same answer twice."""
        answer = _answer(self.device)
        assert isinstance(answer, Availability), f"probe() returned {answer!r}"
        assert answer.available or answer.reason, "it is not available and does not say why"
        assert not (answer.available and answer.reason), "it is available and says why it is not"
        # What a child process answers arrives as JSON.
        assert _lasting(probe_here(self.device)) == _lasting(answer), (
            "an adapter's name, memory or details are not text, bytes or None, and text"
        )
        assert len(_answer(self.device).adapters) == len(answer.adapters)

    def test_target(self, available: Device) -> None:
        """Each adapter's target is plain JSON that TVM understands, and stays the same."""
        import tvm

        for index in range(len(_answer(available).adapters)):
            target = available.target(index)
            assert json.loads(json.dumps(target)) == target, f"it is not a JSON object: {target!r}"
            assert available.target(index) == target, "the target changes from call to call"
            assert tvm.target.Target(dict(target)).kind.name == target["kind"]

    def test_open(self, available: Device) -> None:
        """TVM has each adapter, and there are no others."""
        count = len(_answer(available).adapters)
        for index in range(count):
            assert available.open(index).exist, f"TVM has no device {available.name}:{index}"
        with pytest.raises(MLCError):
            available.open(count)

    def test_takes_its_options(self, available: Device) -> None:
        """The compiler half knows each value of each compilation option."""
        for name, values in available.options.items():
            for value in values:
                available.codegen(available.target(), {name: value})

    @pytest.mark.parametrize("quantization", PLANS)
    def test_agrees_with_the_cpu(
        self, available: Device, workbench: Workbench, quantization: str
    ) -> None:
        """Prefill in chunks and decoding give the CPU's logits."""
        if quantization not in self.tolerances:
            pytest.skip(f"no tolerance is given for {quantization}")
        model = workbench.load(_folder(workbench, quantization), LLAMA, available)
        error, place = largest_error(model, self.expected(workbench, quantization))
        assert error <= self.tolerances[quantization], (
            f"{quantization}: a logit is off by {error:.2g} standard deviations, {place}; "
            f"allowed are {self.tolerances[quantization]:g}"
        )

    @pytest.mark.parametrize("name", READ_SCHEMES)
    def test_weights_that_are_read(self, available: Device, name: str, tmp_path: Path) -> None:
        """Weights that others have quantised are multiplied as they are stored, or refused."""
        from mlc_llm.testing.layer_cases import CASES, check_layer  # which imports TVM

        scheme = READ_SCHEMES[name]
        if not available.has_scheme(scheme):
            pytest.skip(f"the device {available.name!r} has no kernels for {scheme}")
        plan = Plan(name=name, dtype="float16", linear=scheme, embedding=scheme)
        for case in ("linear of parts with bias", "embedding"):
            folder = tmp_path / case
            folder.mkdir()
            check_layer(CASES[case], available, plan, folder, tolerance=LAYER_TOLERANCE)

    def test_goes_back(self, available: Device, workbench: Workbench) -> None:
        """Dropping tokens and feeding others is as if they had never been there."""
        quantization = next(iter(self.tolerances))
        model = workbench.load(_folder(workbench, quantization), LLAMA, available)
        ids = prompt(40, model.vocab_size)
        other = [*ids[:21], *prompt(9, model.vocab_size, seed=1)]
        model.feed(ids)
        found = np.array(model.feed(other))
        wanted = self.expected(workbench, quantization)(other)
        error = float(np.abs(found - wanted).max() / wanted.std())
        assert error <= self.tolerances[quantization], (
            f"after going back a logit is off by {error:.2g} standard deviations"
        )

    def test_mismatch(self, available: Device, workbench: Workbench) -> None:
        """Its own library runs here; one for CPU features that no CPU has does not."""
        quantization = next(iter(self.tolerances))
        library = workbench.library(_folder(workbench, quantization), LLAMA, available)
        record = read_record(library)
        target = available.target()
        reason = available.mismatch(record, target)
        assert reason is None, f"it refuses the library that it has just compiled: {reason}"
        needed = available.required_features(target)
        assert sorted(record.cpu_features) == sorted(needed)
        if needed:
            features = [*needed, IMPOSSIBLE_FEATURE]
            other = record.model_copy(update={"cpu_features": features})
            reason = available.mismatch(other, target)
            assert reason, f"it accepts a library that needs {IMPOSSIBLE_FEATURE!r}"
            assert isinstance(reason, str), f"mismatch() returned {reason!r}"


def _answer(device: Device) -> Availability:
    """What a device's probe returns; whatever else than :class:`Unavailable` it raises, raises."""
    try:
        return device.probe()
    except Unavailable as error:
        return error.availability


def _lasting(answer: Availability) -> list[tuple[Adapter, dict[str, type]]]:
    """The adapters, of their details the kinds alone: how much memory is free now may change."""
    return [
        (replace(one, details={}), {name: type(text) for name, text in one.details.items()})
        for one in answer.adapters
    ]


def _folder(workbench: Workbench, quantization: str) -> Path:
    return workbench.convert(workbench.checkpoint(), quantization, LLAMA)
