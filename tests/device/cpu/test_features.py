"""What this CPU offers, and what a library needs of it."""

from __future__ import annotations

import pytest

from mlc_llm.config import check_options
from mlc_llm.device.cpu import CPU, features
from mlc_llm.device.cpu.features import host_features, host_target, required_features
from mlc_llm.errors import ConfigError
from mlc_llm.plugin import LibraryRecord, ModelSpec
from mlc_llm.quantization import plan
from mlc_llm.testing import raises


def record(features: list[str]) -> LibraryRecord:
    spec = ModelSpec(architecture="llama", shape={}, plan=plan("q0f32"))
    return LibraryRecord(
        tvm="0", project="0", spec=spec, device="cpu", target={}, cpu_features=features
    )


def test_this_cpu_has_what_its_own_target_needs() -> None:
    assert host_features().issuperset(required_features(host_target()))
    target = CPU.target()
    assert CPU.mismatch(record(CPU.required_features(target)), target) is None


def test_a_library_for_another_cpu_names_what_is_missing() -> None:
    reason = CPU.mismatch(record(["sse4.2", "amx-tile-of-the-future"]), CPU.target())
    assert reason is not None
    assert "amx-tile-of-the-future" in reason


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        ({"kind": "llvm", "mcpu": "x86-64", "mattr": []}, set()),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "mattr": []}, {"avx2", "fma", "sse4.2"}),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "mattr": ["+avxvnni"]}, {"avxvnni", "avx2"}),
        ({"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+avx512vnni"]}, {"avx512vnni", "avx2"}),
        ({"kind": "llvm", "mcpu": "generic", "mattr": ["+neon", "+dotprod"]}, {"dotprod"}),
    ],
)
def test_required_features_cover_the_lower_levels(target: dict, needed: set[str]) -> None:
    found = set(required_features(target))
    assert needed <= found
    if not needed:
        assert not found


def test_llvm_agrees_with_the_levels() -> None:
    """Every feature that a level is said to have, LLVM gives to that level too."""
    codegen = pytest.importorskip("tvm.target.codegen")
    from tvm.target import Target

    from mlc_llm.device.cpu.features import X86_LEVELS

    for level, needed in X86_LEVELS:
        target = Target({"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": level})
        for feature in needed:
            assert codegen.llvm_cpu_has_features(feature, target), (level, feature)


@pytest.mark.parametrize(
    ("flags", "level", "extensions"),
    [
        ("avx2 bmi bmi2 f16c fma sse4.2", "x86-64-v3", []),
        ("avx2 bmi bmi2 f16c fma sse4.2 avxvnni", "x86-64-v3", ["+avxvnni"]),
        ("ssse3 sse4.2 avx", "x86-64-v2", []),
    ],
)
def test_the_target_of_another_x86(monkeypatch, flags, level, extensions) -> None:
    monkeypatch.setattr(features, "is_x86", lambda: True)
    monkeypatch.setattr(features, "host_features", lambda: frozenset(flags.split()))
    target = host_target()
    assert (target["mcpu"], target["mattr"]) == (level, extensions)
    needed = required_features(target)
    assert set(needed) >= {e.removeprefix("+") for e in extensions}
    assert set(needed) <= set(flags.split())


def test_there_is_one_cpu() -> None:
    with raises("device-index-unknown", "cpu:1", "cpu:0"):
        CPU.open(1)


@pytest.mark.parametrize("opt", [{"activation": "a8"}, {"activations": "a9"}])
def test_unknown_compilation_options_name_the_known_ones(opt: dict[str, str]) -> None:
    with raises(
        "option-unknown", *{"activations", "a8"} - {*opt, *opt.values()}, error=ConfigError
    ):
        check_options(opt, CPU.options)
