"""Whole programs on the emulated GPU: the plugin, TVM's runtime and the compiler, unmodified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .gpu import EMULATOR
from .marks import only_in_matrix

Program = Callable[..., subprocess.CompletedProcess[str]]

GREEDY = ["--temperature", "0", "--max-gen-len", "24"]


@pytest.fixture
def run(preload: str, wheels: None) -> Program:
    """Run a Python program that has an emulated GPU, with variables of the emulator."""

    def run(*words: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EMULATOR), sys.executable, "-m", *map(str, words)]
        variables = {f"GPU_EMULATOR_{name}": value for name, value in settings.items()}
        return subprocess.run(
            command, capture_output=True, text=True, env=os.environ | variables, timeout=500
        )

    return run


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_writes_the_cpus_text(run: Program) -> None:
    words = ["mlc_llm", "chat", "demo", "--prompt", "Hello, who are you?", *GREEDY]
    answer = said(run(*words, "--device", "cuda"))
    assert len(answer) > 40
    assert answer == said(run(*words, "--device", "cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        *[("stories260k", "q4f16_1"), ("babyllama", "q0f32")],
        *only_in_matrix([("stories260k", "q0f32"), ("babyllama", "q4f16_1")]),
    ],
    ids=" ".join,
)
def test_a_trained_model_writes_the_cpus_text(
    request: pytest.FixtureRequest, run: Program, make_model: Any, model: tuple[str, str]
) -> None:
    name, quantization = model
    folder = make_model(request.getfixturevalue(name), quantization)
    words = ["mlc_llm", "chat", folder, "--conv-template", "LM", "--prompt", "Once", *GREEDY]
    answer = said(run(*words, "--device", "cuda", "--opt", ""))
    assert len(answer) > 20
    assert answer == said(run(*words, "--device", "cpu", "--opt", "activations=a16"))


@pytest.mark.slow
def test_the_conformance_suite(run: Program) -> None:
    suite = ["-p", "mlc_llm.testing.pytest_plugin", "--mlc-llm-device", "cuda"]
    printed = said(run("pytest", "-q", "-p", "no:cacheprovider", *suite))
    assert "test_agrees_with_the_cpu" not in printed  # as it would say of one that is skipped
    assert "19 passed" in printed


@pytest.mark.slow
def test_the_doctor_tries_each_part_of_the_device(run: Program) -> None:
    done = run("mlc_llm", "doctor", "--json")
    report = [one for one in json.loads(done.stdout)["findings"] if one["area"] == "cuda"]
    assert [one["status"] for one in report] == ["ok"] * 6, report
    assert [one["name"] for one in report][-2:] == ["compiling", "running"]
    assert "Emulated GPU 0" in report[0]["detail"]
    assert "right result" in report[-1]["detail"]


@pytest.mark.slow
def test_the_benchmark(run: Program) -> None:
    """Also kernel by kernel; times say nothing here."""
    sizes = ["--prompt-length", "4", "--generate-length", "2", "--repeat", "1"]
    printed = said(run("mlc_llm", "bench", "demo", "--device", "cuda", *sizes, "--profile"))
    for word in ("prefill", "decode", "attention_decode"):
        assert word in printed


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_refused(run: Program) -> None:
    refused = run("mlc_llm", "chat", "demo", "--device", "cuda", "--prompt", "x", MEMORY="5000000")
    assert refused.returncode == 1
    assert "[memory-too-small]" in refused.stderr


@pytest.mark.slow
def test_the_second_of_two_gpus(run: Program) -> None:
    words = ["mlc_llm", "chat", "demo", "--device", "cuda:1", "--prompt", "Hello", *GREEDY]
    assert len(said(run(*words, DEVICES="2"))) > 10
    assert "[device-index-unknown]" in run(*words, DEVICES="1").stderr


@pytest.mark.slow
def test_a_library_that_no_gpu_here_can_run_is_refused(run: Program, tmp_path: Path) -> None:
    library = tmp_path / "other.so"
    made = run("mlc_llm", "compile", "demo", "--device", "cuda", "--arch", "120", "-o", library)
    assert said(made).strip() == str(library)
    refused = run("mlc_llm", "chat", "demo", "--prompt", "x", "--model-lib", library)
    assert refused.returncode == 1
    assert "12.0" in refused.stderr
