"""Generating code on several threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tvm
from tvm import tirx

from mlc_llm.compile import find_compiler
from mlc_llm.compile.build import lower, write_library
from mlc_llm.compile.machine_code import generate_code
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import CompileError
from mlc_llm.model.llama import LLAMA
from mlc_llm.testing import raises

from .test_build import spec

TARGET = tvm.target.Target(dict(CPU.target()))


def test_the_code_does_not_depend_on_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = lower(spec("q0f32"), LLAMA, CPU, CPU.target())
    found = []
    for count in (1, 8):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        folder = tmp_path / str(count)
        folder.mkdir()
        _, objects = generate_code(module, TARGET, folder)
        found.append({path.name: path.read_bytes() for path in objects})
        assert sorted(found[-1]) == sorted(path.name for path in folder.iterdir())
    assert {"float_linear.o", "float_embedding.o", "attention_prefill.o"} <= found[0].keys()
    assert found.count(found[0]) == len(found)


def test_a_kernel_that_cannot_be_compiled_is_named(tmp_path: Path) -> None:
    module = lower(spec("q0f32"), LLAMA, CPU, CPU.target())
    variable = module.get_global_var("float_linear")
    nowhere = tirx.Evaluate(tirx.Var("nowhere", "int32"))
    module.update_func(variable, module[variable].with_body(nowhere))
    library = tmp_path / "tiny.so"
    with raises("code-not-generated", "float_linear", "nowhere", error=CompileError):
        write_library(module, CPU.target(), find_compiler(), library)
    assert list(tmp_path.iterdir()) == []
