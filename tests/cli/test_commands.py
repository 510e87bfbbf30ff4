"""The commands on real models: from a checkpoint to an answer, and what may be wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.library.record import read_record

CLI = Callable[..., Any]

GREEDY = ("--temperature", "0", "--max-gen-len", "24")


@pytest.fixture(scope="module")
def model(mlc_llm: CLI, make_checkpoint: Callable[..., Path], tmp_path_factory: Any) -> Path:
    """A model folder, made by the commands from a random checkpoint, whose answers end."""
    source = make_checkpoint(num_hidden_layers=1, seed=1)
    folder: Path = tmp_path_factory.mktemp("cli") / "random-q0f32-MLC"
    # Quicker to compile than what is quantised.
    arguments = (source, "--quantization", "q0f32", "-o", folder)
    weights = mlc_llm("convert_weight", *arguments)
    assert (weights.returncode, weights.stdout) == (0, f"{folder}\n"), weights.stderr
    config = mlc_llm("gen_config", *arguments, "--conv-template", "LM")
    assert config.returncode == 0, config.stderr
    assert config.stdout == f"{folder / 'mlc-chat-config.json'}\n"
    return folder


def test_settings_and_a_system_message_of_a_folder(
    mlc_llm: CLI, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_checkpoint(num_hidden_layers=1)
    settings = ("--temperature", "0.4", "--top-p", "0.8", "--presence-penalty", "-0.5")
    written = mlc_llm(
        *("gen_config", source, "--quantization", "q4f32_1", "-o", tmp_path),
        *("--conv-template", "chatml", "--system-message", "Be brief.", *settings),
    )
    assert written.returncode == 0, written.stderr
    data = json.loads((tmp_path / "mlc-chat-config.json").read_text(encoding="utf-8"))
    assert (data["temperature"], data["top_p"], data["presence_penalty"]) == (0.4, 0.8, -0.5)
    assert data["conv_template"]["system_message"] == "Be brief."


@pytest.fixture(scope="module")
def library(mlc_llm: CLI, model: Path, tmp_path_factory: Any) -> Path:
    """Its library, made by the command."""
    path: Path = tmp_path_factory.mktemp("cli-library") / "model.so"
    result = mlc_llm("compile", model, "--device", "cpu", "-o", path)
    assert (result.returncode, result.stdout) == (0, f"{path}\n"), result.stderr
    return path


def test_a_deterministic_library(mlc_llm: CLI, model: Path, library: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    result = mlc_llm("compile", model, "--device", "cpu", "--deterministic", "-o", path)
    assert result.returncode == 0, result.stderr
    specs = [read_record(file).spec for file in (path, library)]
    assert [spec.deterministic for spec in specs] == [True, False]


@pytest.fixture(scope="module")
def expected(model: Path, library: Path) -> str:
    """The greedy answer to "Hello", by the Python API."""
    from mlc_llm import ChatModule, GenerationConfig

    with ChatModule(str(model), "cpu", None, str(library)) as chat:
        config = GenerationConfig(temperature=0, max_gen_len=24)
        answer = chat.generate("Hello", config)
    assert isinstance(answer, str)
    return answer


def line(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


class TestChat:
    def test_stdout_is_the_answer_and_nothing_else(
        self, mlc_llm: CLI, model: Path, library: Path, expected: str
    ) -> None:
        options = ("--model-lib", library, "--prompt", "Hello", *GREEDY)
        result = mlc_llm("chat", model, *options)
        assert result.returncode == 0, result.stderr
        assert result.stdout == line(expected)
        assert result.stderr == ""

    def test_what_is_used_is_told_while_debugging(
        self, mlc_llm: CLI, model: Path, library: Path, expected: str
    ) -> None:
        options = ("--model-lib", library, "--prompt", "Hello", *GREEDY)
        result = mlc_llm("chat", model, *options, variables={"MLC_LLM_DEBUG": "1"})
        assert result.stdout == line(expected)
        for text in (
            f"Using model folder: {model}",
            f"Using mlc chat config: {model / 'mlc-chat-config.json'}",
            f"Using library model: {library}",
        ):
            assert text in result.stderr

    def test_lines_through_a_pipe(
        self, mlc_llm: CLI, model: Path, library: Path, expected: str
    ) -> None:
        result = mlc_llm(
            *("chat", model, "--model-lib", library, "--device", "cpu", *GREEDY),
            input="Hello\nHello\n/stats\n",
        )
        assert result.returncode == 0, result.stderr
        # The template LM has no memory: the second answer is the first.
        answers = 2 * line(expected)
        assert result.stdout.startswith(answers)
        stats = result.stdout.removeprefix(answers)
        assert re.fullmatch(r"prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s\n", stats)

    def test_only_tvms_runtime_is_loaded(self, model: Path, library: Path) -> None:
        arguments = ["chat", str(model), "--model-lib", str(library), "--prompt", "x", *GREEDY]
        code = (
            f"import sys; from mlc_llm.cli.app import run; code = run({arguments!r});"
            "print('tvm' in sys.modules, 'tvm.relax' in sys.modules, file=sys.stderr);"
            "sys.exit(code)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stderr.splitlines()[-1] == "True False"

    def test_a_library_is_found_beside_the_weights_when_that_is_allowed(
        self, mlc_llm: CLI, model: Path, library: Path, expected: str, tmp_path: Path
    ) -> None:
        folder = tmp_path / model.name
        folder.mkdir()
        for file in model.iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "beside.so").write_bytes(library.read_bytes())
        options = ("--allow-prebuilt", "--prompt", "Hello", *GREEDY)
        result = mlc_llm("chat", folder, *options, variables={"MLC_LLM_DEBUG": "1"})
        assert result.stdout == line(expected)
        assert f"Using library model: {folder / 'beside.so'}" in result.stderr

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--device", "cpuu"), "[device-unknown]"),
            (("--device", "cpu:7"), "[device-index-unknown]"),
            (("--temperature", "-1"), "temperature"),
            (("--max-gen-len", "0"), "max_gen_len"),
            (("--conv-template", "lama-2"), "[template-unknown]"),
            (("--model-lib", "nowhere.so"), "[library-unusable]"),
            (("--opt", "activations=a3"), "[option-unknown]"),
        ],
    )
    def test_wrong_options(
        self, mlc_llm: CLI, model: Path, options: tuple[str, ...], message: str
    ) -> None:
        result = mlc_llm("chat", model, "--prompt", "Hello", *options)
        assert (result.returncode, result.stdout) == (1, "")
        assert message in result.stderr
        assert "Traceback" not in result.stderr

    def test_no_such_model(self, mlc_llm: CLI, tmp_path: Path) -> None:
        result = mlc_llm("chat", tmp_path / "absent", "--prompt", "Hello")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("Error [model-not-found]: ")


class TestCompileAndConvert:
    def test_an_unknown_quantization(
        self, mlc_llm: CLI, make_checkpoint: Callable[..., Path], tmp_path: Path
    ) -> None:
        source = make_checkpoint(num_hidden_layers=1)
        output = tmp_path / "out"
        result = mlc_llm("convert_weight", source, "--quantization", "q4f16", "-o", output)
        assert result.returncode == 1
        assert "[quantization-unknown]" in result.stderr
        assert not output.exists()

    def test_compiling_what_is_no_model(self, mlc_llm: CLI, tmp_path: Path) -> None:
        result = mlc_llm("compile", tmp_path, "-o", tmp_path / "x.so")
        assert (result.returncode, result.stdout) == (1, "")
        assert "[folder-incomplete]" in result.stderr
        assert not (tmp_path / "x.so").exists()
