"""The step that compares a small model's answers with those that the CPU gave when packing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import Record, device, graphs
from mlc_llm.runtime.captured_pass import Capture, no_capture
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.weights.folder import ModelFolder

PROMPTS = ("Hello, who are you?", "Tell me a story about a cat and the moon.")
TOKENS = 24
QUICK_TOKENS = 8
EXPECTED = "expected.json"
TOLERANCE = 0.15
"""How far a logit may be off that of the CPU, which computes in float32: halves have 11 bits."""


def answer(model: LoadedModel, ids: Sequence[int], tokens: int) -> tuple[np.ndarray, list[int]]:
    """The logits after a prompt, and the likeliest tokens that follow."""
    logits = model.feed(ids).copy()
    said = [int(logits.argmax())]
    while len(said) < tokens:
        said.append(int(model.decode(said[-1]).argmax()))
    return logits, said


def open_model(
    library: Path, folder: Path, where: Any, capture: Capture = no_capture
) -> LoadedModel:
    """The model on a device."""
    window = ContextWindow(256, 128)
    return LoadedModel.load(library, ModelFolder.open(folder), where, window, capture=capture)


def agreement(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """Each prompt's logits and answer, against the CPU's."""
    folder = bundle / "demo"
    gpu = device()
    model = open_model(bundle / "libraries" / "demo.so", folder, gpu, graphs(gpu))
    for case in json.loads((folder / EXPECTED).read_text(encoding="utf-8")):
        count = len(case["said"])
        logits, said = answer(model, case["ids"], count)
        off = float(np.abs(logits - np.asarray(case["logits"])).max())
        same = sum(takewhile(bool, map(eq, said, case["said"])))
        yield {
            "what": f"logits after {case['prompt']!r}",
            "ok": bool(off <= TOLERANCE),
            "note": f"at most {off:.4f} off the CPU's; they spread by {np.std(case['logits']):.2f}",
        }
        yield {
            "what": f"greedy answer to {case['prompt']!r}",
            "ok": said == case["said"],
            "note": f"{same} of {count} tokens as on the CPU: {case['text']!r}",
        }
