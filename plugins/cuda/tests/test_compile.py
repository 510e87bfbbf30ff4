"""Compiling without a GPU: NVIDIA's compiler, machine code for several GPUs, whole models."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from mlc_llm_cuda import DEVICE, toolkit
from mlc_llm_cuda.compilation import machine_code
from mlc_llm_cuda.nvrtc import compile_source
from mlc_llm_cuda.target import code_of

from mlc_llm.compile import compile_model
from mlc_llm.errors import CompileError
from mlc_llm.library.record import read_record
from mlc_llm.testing import make_model_folder, raises

pytestmark = pytest.mark.usefixtures("wheels")

SCALE = 'extern "C" __global__ void scale(float* x, float a) { x[threadIdx.x] *= a; }'
DIVIDE = 'extern "C" __global__ void divide(float* x) { x[0] = sqrtf(x[1] / x[2]); }'
FATBIN_HEADER = struct.Struct("<IHHQ")
FATBIN_MAGIC = struct.pack("<I", 0xBA55ED50)
ELF_MACHINE_CUDA = 190


def test_machine_code_is_for_the_gpu() -> None:
    code = compile_source(SCALE, "sm_80")
    assert code[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", code, 18)[0] == ELF_MACHINE_CUDA
    assert b"scale" in code


def test_ptx_is_text_that_ends_with_a_zero() -> None:
    """The driver takes PTX as a C string, and TVM tells it by its first byte."""
    text = compile_source(SCALE, "compute_90")
    assert text[:1] == b"/"
    assert text[-1:] == b"\0"
    assert b".target sm_90" in text
    assert b".entry scale" in text


def test_arithmetic_is_not_approximated() -> None:
    """Divisions and square roots are rounded (rn); nothing is flushed to zero (ftz)."""
    text = compile_source(DIVIDE, "compute_80").decode()
    assert "div.rn.f32" in text
    assert "sqrt.rn.f32" in text
    assert ".ftz" not in text
    assert ".approx" not in text


def test_the_users_environment_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compile_source(SCALE, "compute_90")
    monkeypatch.setenv("TVM_CUDA_NVRTC_EXTRA_OPTS", "--no-such-option")
    monkeypatch.setenv("CUDA_PATH", "/no/such/folder")
    assert compile_source(SCALE, "compute_90") == before


def test_what_does_not_compile_is_told_with_its_line() -> None:
    with raises("compilation-failed", "sm_90", "undeclared_name", error=CompileError):
        compile_source(
            'extern "C" __global__ void bad(float* x) { *x = undeclared_name; }', "sm_90"
        )


def test_an_unknown_gpu_is_an_error() -> None:
    with raises("compilation-failed", error=CompileError):
        compile_source(SCALE, "sm_9999")


def test_code_for_several_gpus(cuobjdump: Callable[..., str], tmp_path: Path) -> None:
    """NVIDIA's own tool finds all of it."""
    file = tmp_path / "kernels.fatbin"
    file.write_bytes(machine_code(SCALE, ["sm_80", "sm_90", "sm_120", "compute_120"]))
    assert contents(cuobjdump, file) == ["sm_120.cubin", "sm_120.ptx", "sm_80.cubin", "sm_90.cubin"]


def test_code_for_one_gpu_is_not_wrapped() -> None:
    assert machine_code(SCALE, ["sm_90"])[:4] == b"\x7fELF"


@pytest.mark.matrix(quantization=["q4f16_1"])
@pytest.mark.parametrize("quantization", ["q4f16_1", "q0f16"])
def test_a_model_is_compiled_for_gpus_that_are_not_here(
    quantization: str, cuobjdump: Callable[..., str], tmp_path: Path
) -> None:
    folder = make_model_folder(tmp_path / "model", quantization)
    library = compile_model(folder, "cuda", tmp_path / "lib.so", arch="90,80")
    record = read_record(library)
    assert record.device == "cuda"
    assert code_of(record.target) == ["sm_80", "sm_90", "compute_90"]
    assert record.target["arch"] == "sm_80"
    fatbin = tmp_path / "lib.fatbin"
    fatbin.write_bytes(embedded(library.read_bytes()))
    assert contents(cuobjdump, fatbin) == ["sm_80.cubin", "sm_90.cubin", "sm_90.ptx"]
    kernels = re.findall(r"Function (\w+):", cuobjdump("--dump-resource-usage", fatbin))
    assert {"attention_decode_kernel", "attention_prefill_kernel", "gemv_kernel"} <= set(kernels)
    assert all(count == 2 for count in Counter(kernels).values())  # for each GPU


def test_kernels_of_other_programs_are_compiled_as_before() -> None:
    """Those of a target that does not name its code, and those that have no target."""
    program = f"""
import tvm
from tvm_ffi import get_global_func, register_global_func
from mlc_llm_cuda import DEVICE, compilation
register_global_func(compilation.CALLBACK, lambda source: b"theirs", override=True)
compilation.register()
compilation.register()
compile = get_global_func(compilation.CALLBACK)
print(compile("text"))
with tvm.target.Target({{"kind": "cuda", "arch": "sm_90"}}):
    print(compile("text"))
with tvm.target.Target(DEVICE.target_for(["75", "90"])):
    print(compile({SCALE!r})[:4])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["b'theirs'", "b'theirs'", str(FATBIN_MAGIC)]


def test_the_command_names_what_it_does_not_know(tmp_path: Path) -> None:
    """Without a GPU or a driver; nothing is compiled."""
    command = [sys.executable, "-m", "mlc_llm", "compile", "demo", "--device", "cuda"]
    command += ["--arch", "80,95", "-o", str(tmp_path / "x.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error [arch-unknown]: ")
    assert "'95'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_part_is_named_before_anything_is_generated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toolkit, "toolkit_folders", list)
    with raises("device-unavailable", "nvidia-"):
        DEVICE.codegen(DEVICE.target_for(["90"]), {})


def embedded(library: bytes) -> bytes:
    """The fatbin in a library."""
    start = library.index(FATBIN_MAGIC)
    _, _, header, size = FATBIN_HEADER.unpack_from(library, start)
    return library[start : start + header + size]


def contents(cuobjdump: Callable[..., str], fatbin: Path) -> list[str]:
    """What is in a fatbin, as ``sm_90.cubin`` and ``sm_90.ptx``."""
    return sorted(re.findall(r"sm_\d+\.\w+", cuobjdump("--list-elf", "--list-ptx", fatbin)))
