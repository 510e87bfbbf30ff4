"""Compiling: what a library holds, and what goes wrong cleanly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.compile import build, compile_library, compile_model, find_compiler
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import CompileError, ConfigError, DeviceError
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


def test_a_tvm_without_compiler_is_named() -> None:
    program = (
        "from mlc_llm.errors import CompileError\n"
        "try: from mlc_llm.compile import compile_library\n"
        "except CompileError as error: print(error)\n"
        "import tvm\n"
        "import os; del os.environ['TVM_USE_RUNTIME_LIB']\n"
        "try: from mlc_llm.compile import compile_library\n"
        "except CompileError as error: print(error)\n"
        "from mlc_llm.compile import compile_model"
    )
    environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.stdout.count("TVM_USE_RUNTIME_LIB=1") == 2, done.stderr
    assert done.stderr == ""


def test_a_failing_linker_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    output = tmp_path / "out"
    with raises("compilation-failed", "out of luck", error=CompileError) as caught:
        compile_library(spec("q0f32"), LLAMA, CPU, CPU.target(), output / "tiny.so")
    assert "objects" not in str(caught.value)  # of the command
    assert not list(output.iterdir())


def test_of_a_linkers_complaints_the_end_is_shown() -> None:
    noise = "\n".join(f"undefined symbol {i}" for i in range(1000))
    error = RuntimeError(f"Compilation error:\n{noise}\nld: the end\n\nCommand line: cc {'x ' * 9}")
    shown = build._linkers_words(error)
    assert shown.startswith("undefined symbol 981\n")
    assert shown.endswith("\nld: the end")
    assert len(build._linkers_words(RuntimeError("x" * 10**6))) == 4000


@pytest.mark.parametrize("command", ["{}", "{} -flag", "ccache {}", "/usr/bin/ccache {} -m64"])
def test_the_compiler_named_in_the_environment_is_taken(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CXX", command.format(sys.executable))
    assert find_compiler() == sys.executable


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_path_of_the_compiler_may_have_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "my tools" / "cc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    assert find_compiler() == str(program)


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


class TestForWhatIsNotHere:
    """``arch``, which the cpu device refuses; the cuda device's tests have one that does not."""

    @pytest.fixture
    def model(self, make_checkpoint: Any, make_model: Any) -> Path:
        folder: Path = make_model(make_checkpoint("llama"), "q0f32")
        return folder

    def test_a_device_refuses_it_unless_it_says_otherwise(
        self, model: Path, tmp_path: Path
    ) -> None:
        with raises("arch-unsupported", "'cpu'", "'x86-64-v3', 'armv9'", error=DeviceError):
            compile_model(model, "cpu", tmp_path / "x.so", arch="x86-64-v3,armv9")
        assert not list(tmp_path.iterdir())

    def test_the_device_must_be_named(self, model: Path, tmp_path: Path) -> None:
        with raises("device-unnamed", error=DeviceError):
            compile_model(model, "auto", tmp_path / "x.so", arch="80")


class TestInAChild:
    """What happens to the compiler does not happen to the program that compiles."""

    @pytest.fixture
    def model(self, make_checkpoint: Any, make_model: Any) -> Path:
        folder: Path = make_model(make_checkpoint("llama"), "q0f32")
        return folder

    @pytest.mark.skipif(sys.platform == "win32", reason="POSIX's limit of a file's size")
    def test_no_space_is_an_error_with_its_reason(self, model: Path, tmp_path: Path) -> None:
        """Under such a limit LLVM ends its process, as it does on a full disk."""
        output = tmp_path / "out" / "x.so"
        program = f"""
import resource
from mlc_llm import compile_model
from mlc_llm.errors import CompileError
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    compile_model({str(model)!r}, "cpu", {str(output)!r})
except CompileError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Compiling the library {output} failed: ")
        assert "File too large" in done.stdout
        assert not list(output.parent.iterdir())

    def test_a_place_that_cannot_be_written(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with raises("file-unwritable", tmp_path / "file" / "x.so", error=CompileError):
            compile_model(model, "cpu", tmp_path / "file" / "x.so")
        (tmp_path / "x.so").mkdir()
        with raises("file-unwritable", tmp_path / "x.so", error=CompileError):
            compile_model(model, "cpu", tmp_path / "x.so")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.so"]

    def test_an_unknown_option_is_a_config_error(self, model: Path, tmp_path: Path) -> None:
        with raises("option-unknown", "activations", error=ConfigError):
            compile_model(model, "cpu", tmp_path / "out" / "x.so", opt="activation=a8")
        assert not list(tmp_path.iterdir())

    def test_neither_tvm_nor_a_runtime_only_tvm_is_needed_here(
        self, model: Path, tmp_path: Path
    ) -> None:
        program = (
            "import sys; from mlc_llm import compile_model;"
            f"print(compile_model({str(model)!r}, 'cpu', {str(tmp_path / 'x.so')!r}));"
            "assert 'tvm' not in sys.modules"
        )
        environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=environment
        )
        assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'x.so'}\n"), done.stderr
        assert read_record(tmp_path / "x.so").spec.architecture == "llama"
