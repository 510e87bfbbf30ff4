"""Which code is made for which GPUs, and which libraries a GPU takes."""

from __future__ import annotations

from typing import Any

import pytest
from mlc_llm_cuda import DEVICE, nvrtc, target

from mlc_llm.plugin import LibraryRecord, ModelSpec
from mlc_llm.quantization import plan
from mlc_llm.testing import raises


def record(target: dict[str, Any]) -> LibraryRecord:
    spec = ModelSpec(architecture="llama", shape={}, plan=plan("q4f16_1"))
    return LibraryRecord(tvm="0", project="0", spec=spec, device="cuda", target=target)


@pytest.mark.usefixtures("wheels")
def test_the_capabilities_are_those_of_the_compiler() -> None:
    assert list(target.CAPABILITIES) == nvrtc.supported()


@pytest.mark.parametrize(
    ("capability", "code"),
    [
        (75, "sm_75"),
        (90, "sm_90"),
        (121, "sm_121"),
        # Newer than the compiler: a minor version runs its major version's code, others PTX.
        (122, "sm_121"),
        (109, "sm_103"),
        (130, "compute_121"),
    ],
)
def test_the_code_for_a_gpu(capability: int, code: str) -> None:
    made = target.target_of(capability)
    assert target.code_of(made) == [code]
    assert made["arch"] == f"sm_{capability}"
    assert target.mismatch(record(made), made) is None


@pytest.mark.parametrize(
    "names", [["80", "90", "86"], ["sm_90", "8.6", " 80 "], ["90", "86", "80", "80"]]
)
def test_the_code_for_gpus_that_are_named(names: list[str]) -> None:
    made = DEVICE.target_for(names)
    assert target.code_of(made) == ["sm_80", "sm_86", "sm_90", "compute_90"]
    assert made["arch"] == "sm_80"


@pytest.mark.parametrize("name", ["", "91", "70", "90a", "hopper", "sm_", "9" * 5000])
def test_gpus_that_are_not_known(name: str) -> None:
    with raises("arch-unknown", name[:20], "120"):
        DEVICE.target_for(["80", name])


@pytest.mark.parametrize(
    ("names", "capability", "fits"),
    [
        (["80"], 80, True),
        (["80"], 75, False),
        (["80"], 86, True),  # of the same major version
        (["86"], 80, False),
        (["86"], 89, True),
        (["80", "90"], 120, True),  # by the PTX
        (["90", "120"], 89, False),
        (["100"], 120, True),
        (["120"], 100, False),
        (["86"], 87, True),  # a Jetson, by the PTX
        (["86", "90"], 87, False),
        (["87"], 87, True),
    ],
)
def test_which_libraries_a_gpu_takes(names: list[str], capability: int, fits: bool) -> None:
    reason = DEVICE.mismatch(record(target.target_for(names)), target.target_of(capability))
    assert (reason is None) == fits
    if reason is not None:
        assert target.dotted(capability) in reason
        assert f"machine code for {names[0][:-1]}.{names[0][-1]}" in reason
        assert f"--arch {capability}" in reason


@pytest.mark.parametrize("keys", [[], ["cuda", "gpu"], ["sm_x"], ["compute_", "sm_99999999"]])
def test_a_library_without_code_is_refused(keys: list[str]) -> None:
    of_nothing = record({"kind": "cuda", "keys": keys})
    assert DEVICE.mismatch(of_nothing, target.target_of(90)) is not None
