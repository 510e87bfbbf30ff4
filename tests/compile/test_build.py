"""Compiling: what a library holds, and what goes wrong cleanly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.compile import compile_library, compile_model, find_compiler
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import CompileError, ConfigError
from mlc_llm.library.record import read_record
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import ModelSpec, Plan, Scheme
from mlc_llm.quantization import plan
from mlc_llm.testing import raises

TINY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": 64,
    "context_window_size": 64,
}


def spec(quantization: str = "q4f16_1", **changes: Any) -> ModelSpec:
    shape = LLAMA.config({**TINY, **changes}).shape()
    return ModelSpec(architecture="llama", shape=shape, plan=plan(quantization))


def test_a_library_carries_its_record_and_metadata(tmp_path: Path) -> None:
    tvm = pytest.importorskip("tvm")
    library = tmp_path / "new" / "tiny.so"
    compile_library(spec(), LLAMA, CPU, CPU.target(), library)
    assert [path.name for path in library.parent.iterdir()] == ["tiny.so"]

    record = read_record(library)
    assert record.spec == spec()
    assert (record.device, record.target) == ("cpu", CPU.target())
    assert record.cpu_features == CPU.required_features(CPU.target())

    machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    metadata = json.loads(machine["_metadata"]())
    shapes = {param["name"]: param["shape"] for param in metadata["params"]}
    assert shapes["model.embed_tokens.q_weight"] == ["vocab_size", 4]
    assert shapes["model.layers.0.mlp.down_proj.q_scale"] == [32, 2]
    taken = [name for step in metadata["repack"] for name in step["inputs"]]
    assert sorted(taken) == sorted(shapes)


def test_without_a_c_compiler_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with raises("compiler-missing", "no-such-compiler", error=CompileError):
        compile_library(spec(), LLAMA, CPU, CPU.target(), tmp_path / "tiny.so")
    assert not list(tmp_path.iterdir())


def test_a_failing_linker_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    output = tmp_path / "out"
    with raises("compilation-failed", "out of luck", error=CompileError):
        compile_library(spec(), LLAMA, CPU, CPU.target(), output / "tiny.so")
    assert not list(output.iterdir())


@pytest.mark.parametrize("command", ["{}", "{} -flag", "ccache {}", "/usr/bin/ccache {} -m64"])
def test_the_compiler_named_in_the_environment_is_taken(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CXX", command.format(sys.executable))
    assert find_compiler() == sys.executable


def test_an_unknown_option_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    wrong = spec().model_copy(update={"opt": "activation=a8"})
    with raises("option-unknown", "'activation'", "activations", error=ConfigError):
        compile_library(wrong, LLAMA, CPU, CPU.target(), tmp_path / "tiny.so")
    assert not list(tmp_path.iterdir())


def test_a_child_process_compiles_a_job(tmp_path: Path) -> None:
    library = tmp_path / "tiny.so"
    assert run_job(tmp_path, library, spec("q0f32")).returncode == 0
    assert read_record(library).spec == spec("q0f32")


def test_a_failing_job_answers_with_its_reason(tmp_path: Path) -> None:
    odd = Scheme(4, "float16", group=72, zero=7)
    strange = Plan(name="q4f16_20", dtype="float16", linear=odd, embedding=odd)
    wanted = spec().model_copy(update={"plan": strange})
    finished = run_job(tmp_path, tmp_path / "tiny.so", wanted)
    assert finished.returncode == 1
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert f"no kernels for weights in {odd}" in answer["error"]
    assert "Traceback" in answer["traceback"]


def run_job(folder: Path, output: Path, wanted: ModelSpec) -> subprocess.CompletedProcess[str]:
    job = folder / "job.json"
    data = {"spec": wanted.model_dump(), "device": "cpu", "target": CPU.target()}
    job.write_text(json.dumps({**data, "output": str(output)}))
    command = [sys.executable, "-m", "mlc_llm.compile", "--job", str(job)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_compile_model_puts_the_library_into_the_folder(
    make_checkpoint: Any, make_model: Any, tmp_path: Path
) -> None:
    folder = make_model(make_checkpoint("llama"), "q0f32")
    library = compile_model(folder, "cpu", tmp_path / "named.so")
    assert library == tmp_path / "named.so"
    assert read_record(library).spec.architecture == "llama"
