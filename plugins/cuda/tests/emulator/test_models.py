"""Whole models on the emulated GPU, through the kernels in CUDA C."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LAYERS = 5
"""Of the demo, a Llama."""

PROGRAM = """
import sys
from mlc_llm import ChatModule, GenerationConfig
chat = ChatModule("demo", device=sys.argv[1])
config = GenerationConfig(temperature=0.0, max_gen_len=24)
for prompt in ("Hello", "Tell me a story about a cat and the moon."):
    print(chat.generate(prompt, generation_config=config))
"""


def greedy_text(device: str, **variables: str) -> str:
    """What the demo says on a device, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, device],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_says_what_it_says_on_the_cpu(preload: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    said = greedy_text("cuda", LD_PRELOAD=preload, GPU_EMULATOR_TRACE=str(trace))
    launched = [launch(line) for line in trace.read_text().splitlines()]
    assert said == greedy_text("cpu")
    assert "q4_matmul" in launched
    layer = ["q4_gemv", "attention_append", *2 * ["attention_decode"], *3 * ["q4_gemv"]]
    assert of_the_last_token(launched) == ["embedding", *LAYERS * layer, "q4_gemv"]


def launch(line: str) -> str:
    """The name of a launched kernel, without the numbers that make it unique."""
    return re.sub(r"\d*_kernel(_\d+)?$", "", json.loads(line)["kernel"])


def of_the_last_token(launched: list[str]) -> list[str]:
    """A pass begins with the look-up of its tokens."""
    return launched[-1 - launched[::-1].index("embedding") :]
