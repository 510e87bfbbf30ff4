"""How long compiling a model library takes, as a first chat waits for it.

The compiler runs in a child process, and its start is part of the time. No cache is used.

    python -m benchmarks.compile_time --shape tinyllama-1.1b
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.random_model import chat_config
from benchmarks.shapes import SHAPES
from mlc_llm.config import ModelFile
from mlc_llm.plugin import ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.registry import default_registry


def spec_of(shape: str, quantization: str, opt: str = "") -> ModelSpec:
    """The spec of a random model of that shape."""
    model = ModelFile.model_validate(chat_config(SHAPES[shape], quantization))
    architecture = default_registry().architecture(model.model_type)
    return ModelSpec.of(model, architecture, folder_plan(model), opt)


def compile_in_child(spec: ModelSpec, output: Path, device: str = "cpu") -> float:
    """Compile a library to ``output`` in a child process; returns the seconds it took."""
    job = {
        "spec": spec.model_dump(mode="json"),
        "device": device,
        "target": default_registry().device(device).target(),
        "output": str(output),
    }
    environment = {k: v for k, v in os.environ.items() if k != "TVM_USE_RUNTIME_LIB"}
    path = output.with_suffix(".json")
    path.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "mlc_llm.compile", "--job", str(path)]
    begin = time.perf_counter()
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    if result.returncode:
        sys.exit(f"Compiling failed: {result.stdout}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama-1.1b")
    parser.add_argument("--quantization", default="q4f16_1")
    parser.add_argument("--opt", default="", help="compilation options")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    spec = spec_of(arguments.shape, arguments.quantization, arguments.opt)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "library.so"
        times = [compile_in_child(spec, output) for _ in range(arguments.rounds)]
        size = output.stat().st_size
    print(
        f"compile {arguments.shape} {arguments.quantization}: "
        f"{statistics.median(times):.1f} s (median of {arguments.rounds}, "
        f"{min(times):.1f}-{max(times):.1f}), library {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
