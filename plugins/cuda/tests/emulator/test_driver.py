"""What the fake driver and NVRTC refuse, as the real ones do, and how they are found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .gpu import EMULATOR, GPU, GPUFailed

NOTHING = 'extern "C" __global__ void __launch_bounds__(64) f(int* x) {}'


def test_what_does_not_compile_says_why(gpu: GPU) -> None:
    with pytest.raises(GPUFailed, match=r"kernels\.cu:1:\d+: error: .*oops"):
        gpu.call("compile_text", 'extern "C" __global__ void f() { oops; }')


def test_what_is_no_machine_code_is_refused(gpu: GPU) -> None:
    with pytest.raises(GPUFailed, match="device kernel image is invalid"):
        gpu.call("load", b"\0" * 64, "f")
    with pytest.raises(GPUFailed, match="named symbol not found"):
        gpu.call("load", gpu.call("compile_text", NOTHING), "g")


@pytest.mark.parametrize(
    ("compiled_for", "gpus"),
    [
        ("sm_80", {"80", "86", "89"}),
        ("sm_86", {"86", "89"}),
        ("sm_90a", {"90"}),
        ("compute_86", {"86", "89", "90", "120"}),
    ],
)
def test_machine_code_runs_on_gpus_of_its_generation(
    own_gpu: Callable[..., GPU], compiled_for: str, gpus: set[str]
) -> None:
    gpu = own_gpu()
    code = gpu.call("compile_text", NOTHING, compiled_for)
    for arch in ("80", "86", "89", "90", "120"):
        gpu.set("ARCH", arch)
        if arch in gpus:
            gpu.call("load", code, "f")
        else:
            with pytest.raises(GPUFailed, match="no kernel image is available for execution"):
                gpu.call("load", code, "f")


def test_of_joined_machine_code_that_which_fits_is_loaded(own_gpu: Callable[..., GPU]) -> None:
    gpu = own_gpu()
    code = gpu.call("compile_for", NOTHING, "sm_80", "sm_90", "compute_90")
    for arch in ("80", "86", "90", "120"):
        gpu.set("ARCH", arch)
        gpu.call("load", code, "f")
    gpu.set("ARCH", "75")
    with pytest.raises(GPUFailed, match="no kernel image is available for execution"):
        gpu.call("load", code, "f")


@pytest.mark.parametrize(
    ("grid", "block"), [(0, 1), ((1, 65536), 1), (1, 1025), (1, (1, 1, 65)), (1, 65)]
)
def test_a_launch_of_a_wrong_size_is_refused(gpu: GPU, grid: object, block: object) -> None:
    with pytest.raises(GPUFailed, match="invalid argument"):
        gpu.run(NOTHING, grid, block, np.zeros(1, "int32"))


def test_too_much_fixed_shared_memory_is_refused(gpu: GPU) -> None:
    text = """
extern "C" __global__ void f(int* x) {
  __shared__ int held[13000];
  held[threadIdx.x] = 1;
  x[0] = held[0];
}
"""
    with pytest.raises(GPUFailed, match="invalid argument"):
        gpu.run(text, 1, 1, np.zeros(1, "int32"))


def test_a_graph_is_what_was_launched_while_it_was_captured(gpu: GPU) -> None:
    text = 'extern "C" __global__ void f(int* x) { x[0] += 1; }'
    assert gpu.call("run_as_graph", text, 0, np.zeros(1, "int32"))[0] == 0
    assert gpu.call("run_as_graph", text, 3, np.zeros(1, "int32"))[0] == 3


BLOCKING, NON_BLOCKING = 0, 1
GLOBAL, THREAD_LOCAL = 0, 1


@pytest.mark.parametrize(
    ("flags", "mode", "elsewhere", "reason"),
    [
        (NON_BLOCKING, THREAD_LOCAL, False, "not permitted when stream is capturing"),
        (NON_BLOCKING, GLOBAL, True, "not permitted when stream is capturing"),
        (BLOCKING, THREAD_LOCAL, True, "would make the legacy stream depend on a capturing"),
        (NON_BLOCKING, THREAD_LOCAL, True, None),
    ],
)
def test_what_may_be_done_while_a_stream_is_captured(
    gpu: GPU, flags: int, mode: int, elsewhere: bool, reason: str | None
) -> None:
    if reason is None:
        gpu.call("allocate_in_capture", flags, mode, elsewhere)
    else:
        with pytest.raises(GPUFailed, match=reason):
            gpu.call("allocate_in_capture", flags, mode, elsewhere)
    gpu.call("allocate", 100)


def test_what_is_compiled_again_comes_from_the_cache(
    own_gpu: Callable[..., GPU], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = own_gpu()
    code = gpu.call("compile_text", NOTHING)
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no g++
    gpu = own_gpu()
    assert gpu.call("compile_text", NOTHING) == code
    with pytest.raises(GPUFailed, match=r"g\+\+, which is not installed"):
        gpu.call("compile_text", NOTHING.replace("64", "32"))


def test_a_real_library_of_the_name_opens_as_the_emulated_one(gpu: GPU) -> None:
    """Whoever opens NVRTC where NVIDIA's wheel has it gets the emulator's."""
    assert gpu.call("open_library", "/usr/lib/libnvrtc.so.13")


def test_a_command_runs_on_the_emulated_gpu(preload: str) -> None:
    program = "import tvm; print(tvm.cuda(0).exist, tvm.cuda(0).device_name)"
    done = subprocess.run(
        [sys.executable, str(EMULATOR), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[0] == "True Emulated GPU 0"
