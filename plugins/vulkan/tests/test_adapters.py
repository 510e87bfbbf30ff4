"""Adapters as they are listed, and what is compiled for them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlc_llm_vulkan.adapters import Limits, NativeAdapter, parse_adapters
from mlc_llm_vulkan.loader import PhysicalDevice
from mlc_llm_vulkan.target import SHARED_MEMORY, THREADS, mismatch, target_of

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import LibraryRecord, ModelSpec
from mlc_llm.quantization import plan
from mlc_llm.testing import raises

LISTED = {
    "name": "Card",
    "type": "discrete",
    "vendor": 4318,
    "device_id": 9,
    "driver": "driver",
    "driver_info": "7.1",
    "limits": {
        "max_buffer_size": 1 << 40,
        "max_storage_buffer_binding_size": (4 << 30) - 4,
        "max_storage_buffers_per_shader_stage": 64,
        "max_compute_workgroup_storage_size": 49152,
        "max_compute_invocations_per_workgroup": 1024,
        "max_compute_workgroup_size_x": 512,
    },
    "features": {"shader_f16": True},
}
CARD = NativeAdapter.parse(LISTED)
LIMITS = st.builds(
    Limits,
    buffer=st.integers(1 << 20, 1 << 40),
    binding=st.integers(1 << 20, 1 << 33),
    bindings=st.integers(4, 1 << 20),
    threads=st.integers(128, 4096),
    shared_memory=st.integers(16384, 1 << 18),
)


def test_what_is_read_of_the_native_list() -> None:
    cards = parse_adapters(json.dumps([LISTED, {**LISTED, "name": "Other", "type": "cpu"}]))
    assert [card.name for card in cards] == ["Card", "Other"]
    assert [card.software for card in cards] == [False, True]
    assert CARD.limits == Limits(1 << 40, (4 << 30) - 4, 64, 512, 49152)
    assert CARD.limits.tensor == (4 << 30) - 4


def test_what_is_told_of_an_adapter() -> None:
    twins = [
        PhysicalDevice("Card", 4318, 10, (1, 1, 0), 1),
        PhysicalDevice("Card", 4318, 9, (1, 3, 277), 24 << 30),
    ]
    told = CARD.described(twins)
    assert (told.name, told.memory, told.largest_tensor) == ("Card", 24 << 30, (4 << 30) - 4)
    assert (told.software, told.shares_memory, told.float16) == (False, False, True)
    assert told.details == {
        "type": "discrete GPU",
        "driver": "driver 7.1",
        "Vulkan": "1.3.277",
        "float16": "yes",
        "workgroup": "512 threads",
        "shared memory": "48 KiB",
        "largest tensor": "4095 MiB",
        "buffers of a kernel": "64",
    }


@pytest.mark.parametrize(
    ("kind", "software", "shares"),
    [
        ("discrete", False, False),
        ("integrated", False, True),
        ("virtual", False, False),
        ("cpu", True, True),
        ("other", False, False),
    ],
)
def test_kinds_of_adapters(kind: str, software: bool, shares: bool) -> None:
    told = replace(CARD, kind=kind, float16=False).described([])
    assert (told.software, told.shares_memory, told.float16) == (software, shares, False)
    assert told.memory is None
    assert "Vulkan" not in told.details


@given(LIMITS, st.booleans())
def test_a_target_is_within_the_limits_and_tvm_knows_it(limits: Limits, float16: bool) -> None:
    import tvm

    adapter = replace(CARD, limits=limits, float16=float16)
    target = target_of(adapter)
    assert json.loads(json.dumps(target)) == target
    assert target["max_num_threads"] <= limits.threads
    assert target["max_shared_memory_per_block"] <= limits.shared_memory
    assert target["max_num_threads"] in THREADS
    assert target["max_shared_memory_per_block"] in SHARED_MEMORY
    assert ("float16" in target["keys"]) == float16
    known = tvm.target.Target(dict(target))
    assert known.attrs["max_num_threads"] == target["max_num_threads"]
    assert "gpu" in known.keys


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"threads": 127}, [127, 128]),
        ({"shared_memory": 0}, [0, 16384]),
    ],
)
def test_an_adapter_below_what_vulkan_demands(limits: dict[str, int], named: list[int]) -> None:
    with raises("device-unavailable", CARD.name, *named, error=DeviceError):
        target_of(replace(CARD, limits=replace(CARD.limits, **limits)))


def record_for(adapter: NativeAdapter) -> LibraryRecord:
    """The record of a library that was compiled for an adapter."""
    spec = ModelSpec(architecture="llama", shape={}, plan=plan("q4f32_1"))
    target = target_of(adapter)
    return LibraryRecord(tvm="1", project="1", spec=spec, device="vulkan", target=target)


@given(LIMITS, LIMITS)
def test_a_library_runs_where_its_target_is_allowed(made: Limits, used: Limits) -> None:
    there, here = replace(CARD, limits=made), replace(CARD, limits=used)
    record, target = record_for(there), target_of(here)
    fits = all(
        record.target[key] <= target[key]
        for key in ("max_num_threads", "max_shared_memory_per_block")
    )
    assert (mismatch(record, target) is None) == fits
    assert mismatch(record_for(here), target) is None


def test_a_mismatch_names_both_sides() -> None:
    small = replace(CARD, limits=replace(CARD.limits, threads=128))
    tight = replace(CARD, limits=replace(CARD.limits, shared_memory=16384))
    assert mismatch(record_for(CARD), target_of(small)) == (
        "it needs 256 threads in a workgroup, and this adapter takes libraries of up to 128"
    )
    assert mismatch(record_for(CARD), target_of(tight)) == (
        "it needs 32768 bytes of memory that a workgroup shares, and this adapter takes libraries "
        "of up to 16384"
    )
