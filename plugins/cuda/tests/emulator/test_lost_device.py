"""A kernel that fails, after which CUDA answers every call with the error; memory that runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOSS = """
import numpy as np
import cuda_api
from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.errors import DeviceError

config = GenerationConfig(temperature=0.0, max_gen_len=3)
gpu, other = ChatModule("demo", device="cuda"), ChatModule("demo", device="cuda")
said = gpu.generate("Hello", generation_config=config)
try:
    cuda_api.run(FAILS, (1,), (1,), np.zeros(1, "float32"))
except RuntimeError:
    pass
for chat in (gpu, gpu, other):
    try:
        chat.generate("Hello", generation_config=config)
    except DeviceError as error:
        print(error.code, "illegal memory access" in str(error))
try:
    ChatModule("demo", device="cuda")
except DeviceError as error:
    print(error.code)
gpu.close()
with ChatModule("demo", device="cpu") as cpu:
    print(cpu.generate("Hello", generation_config=config) == said)
"""
SHORTAGE = """
import tvm
from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.errors import MLCError

config, prompt = GenerationConfig(temperature=0.0, max_gen_len=2), "What is there to see? " * 8
gpu, taken = ChatModule("demo", device="cuda"), []
said = gpu.generate("Hello", generation_config=config)
for size in (1 << 30, 1 << 20, 1 << 10):
    try:
        while True:
            taken.append(tvm.runtime.empty((size,), "uint8", tvm.cuda(0)))
    except RuntimeError as error:
        assert "out of memory" in str(error)
try:
    gpu.generate(prompt, generation_config=config)
except MLCError as error:
    print(error.code, "out of memory" in str(error))
taken.clear()
gpu.generate(prompt, generation_config=config)
gpu.reset_chat()
print(gpu.generate("Hello", generation_config=config) == said)
"""
FAILS = 'extern "C" __global__ void f(float* x) { x[1 << 28] = 1; }'


def lines(program: str, preload: str) -> list[str]:
    """What a program prints that has an emulated GPU."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LD_PRELOAD": preload, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_process_goes_on_with_other_devices(preload: str, wheels: None) -> None:
    said = lines(f"FAILS = {FAILS!r}\n{LOSS}", preload)
    assert said == [*["device-lost True"] * 3, "device-lost", "True"]


@pytest.mark.slow
def test_a_chat_goes_on_when_there_is_memory_again(preload: str, wheels: None) -> None:
    assert lines(SHORTAGE, preload) == ["generation-failed True", "True"]
