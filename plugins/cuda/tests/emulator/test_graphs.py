"""Tokens as CUDA graphs, on the emulated GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAME_TEXT = """
from mlc_llm import ChatConfig, ChatModule, GenerationConfig

config = GenerationConfig(temperature=0.0, max_gen_len=6)
chat = ChatModule("demo", device="cuda")
said = chat.generate("Hello", generation_config=config)
chat.reset_chat()
assert chat.generate("Hello", generation_config=config) == said
chat.generate("And a longer prompt in between.", generation_config=config)
# Another cache: what was captured had the addresses of the first one.
chat.reset_chat(ChatConfig(context_window_size=256))
assert chat.generate("Hello", generation_config=config) == said
print(said)
"""

MEANWHILE = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import tvm
from mlc_llm_cuda.graph import capture

def work():
    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(tvm.runtime.tensor, np.ones(5, "float32"), gpu).result()
        assert threads.submit(made.numpy).result().sum() == 5

gpu = tvm.cuda(0)
capture(gpu, work)()
"""


def run(program: str, preload: str, **variables: str) -> str:
    """Run a program with an emulated GPU; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LD_PRELOAD": preload, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "launched one by one" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_captured_token_is_the_same(preload: str, wheels: None, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    said = run(SAME_TEXT, preload, GPU_EMULATOR_TRACE=str(trace), GPU_EMULATOR_PROTECT="1")
    assert said.strip()
    launches = [json.loads(line) for line in trace.read_text().splitlines()]
    captured = [one for one in launches if one.get("graph")]
    # Of four answers all tokens but the first two are captured, each with all of its kernels.
    heads = [one for one in captured if one["kernel"].startswith("q4_gemv")]
    assert len(heads) > 40
    assert {one["kernel"] for one in captured} >= {
        one["kernel"] for one in launches if one["kernel"].startswith(("attention_decode", "q4_ge"))
    }


def test_other_threads_may_load_and_compute_meanwhile(preload: str, wheels: None) -> None:
    run(MEANWHILE, preload)
