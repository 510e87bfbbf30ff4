"""How near to its limits mlc_llm is on the CPU. Each measurement is a process of its own.

``bandwidth``  decoding as a share of the memory's read bandwidth: the bytes that a token reads,
               which are the codes and scales of all linear layers and the head, and the keys and
               values of its context, by the time that it takes; against a plain sum over 1 GB
               with the same threads, measured just before and just after.
``load``       seconds to load a model whose files are in the page cache and whose library is
               compiled, and the most memory that took, against weights and KV cache.
``idle``       CPU seconds used in the second that begins 50 ms after a generation.
``overhead``   what Python and the virtual machine cost a token: its time with a library whose
               kernels do nothing, as a share of its time with the library proper.

    python -m benchmarks.limits --shape tinyllama-1.1b bandwidth
    python -m benchmarks.limits --shape llama-2-7b load
    python -m benchmarks.limits --shape smollm2-135m overhead idle
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import ROOT
from benchmarks.contestants import prepare
from benchmarks.shapes import SHAPES, ModelShape
from mlc_llm.plugin import Scheme
from mlc_llm.quantization import plan

GB = 1e9
KV_BYTES = 2
"""Bytes of a number in the KV cache of a float16 model."""


@dataclass(frozen=True)
class Task:
    """What is measured.

    Args:
        shape: the model's shape.
        model: its folder.
        threads: threads of the model and of the sum.
        context: tokens that the KV cache holds.
        prompt: tokens before those that are generated.
        rounds: measurements, of which the median counts.
    """

    shape: ModelShape
    model: Path
    threads: int
    context: int
    prompt: int
    rounds: int

    def run(self, measurement: str, *words: str) -> Any:
        """The answer of ``limits_side``."""
        command = [sys.executable, "-m", "benchmarks.limits_side", measurement, str(self.model)]
        command += ["--threads", str(self.threads), "--context", str(self.context)]
        command += ["--prompt", str(self.prompt), "--rounds", str(self.rounds), *words]
        return json.loads(_output(command))


def token_bytes(shape: ModelShape, kind: Scheme, context: int) -> float:
    """Bytes that decoding one token reads.

    Args:
        shape: the model's shape.
        kind: how its weights are stored.
        context: tokens before it.
    """
    weights = shape.linear_parameters * kind.bits_per_weight / 8
    return weights + context * shape.kv_elements * KV_BYTES


def bandwidth(task: Task) -> dict[str, Any]:
    """Decoding as a share of the read bandwidth."""
    before = read_bandwidth(task.threads)
    answer = task.run("decode")
    reads = [before, read_bandwidth(task.threads)]
    # The context grows while the tokens come; the median run is in its middle.
    nbytes = token_bytes(task.shape, plan("q4f16_1").linear, task.prompt + 24)
    reached = nbytes / answer["seconds_per_token"]
    return {
        "tokens_per_second": 1 / answer["seconds_per_token"],
        "megabytes_per_token": nbytes / 1e6,
        "gigabytes_per_second": reached / GB,
        "read_gigabytes_per_second": [read / GB for read in reads],
        "share": reached / statistics.mean(reads),
    }


def read_bandwidth(threads: int) -> float:
    """Bytes a second of a sum over 1 GB, in a process of its own."""
    code = f"from benchmarks.limits import print_read_bandwidth\nprint_read_bandwidth({threads})"
    return float(_output([sys.executable, "-c", code], TVM_NUM_THREADS=str(threads)))


def print_read_bandwidth(threads: int) -> None:
    """Print what :func:`read_bandwidth` returns."""
    from mlc_llm.cli.bench.peaks import READ_BYTES, compiled_kernels
    from mlc_llm.device.cpu.peaks import run_kernels
    from mlc_llm.registry.registry import default_registry

    library = compiled_kernels(default_registry().device("cpu").target())
    print(run_kernels(library, threads, READ_BYTES).read)


def load(task: Task) -> dict[str, Any]:
    """Load time with a warm page cache, and peak memory against weights and KV cache."""
    # The first one compiles the library if need be, and brings the files into the page cache.
    answers = [task.run("load") for _ in range(1 + task.rounds)][1:]
    files = sum(file.stat().st_size for file in task.model.glob("params_shard_*.bin"))
    cache = task.context * task.shape.kv_elements * KV_BYTES
    peak = statistics.median(answer["after"]["peak"] for answer in answers)
    return {
        "seconds": statistics.median(answer["seconds"] for answer in answers),
        "rounds": [answer["seconds"] for answer in answers],
        "peak_gigabytes": peak / GB,
        "resident_gigabytes": answers[-1]["after"]["resident"] / GB,
        "of_mapped_files_gigabytes": answers[-1]["after"]["files"] / GB,
        "python_and_tvm_gigabytes": answers[-1]["before"]["peak"] / GB,
        "weights_gigabytes": files / GB,
        "kv_cache_gigabytes": cache / GB,
        "peak_over_weights_and_kv_cache": peak / (files + cache),
    }


def idle(task: Task) -> dict[str, Any]:
    """CPU seconds used while nothing is asked for."""
    return dict(task.run("idle"))


def overhead(task: Task) -> dict[str, Any]:
    """What a token costs besides its computation, as a share of its time."""
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder) / "empty.so")
        _output([sys.executable, "-m", "benchmarks.empty_library", str(task.model), library])
        runs = [
            (
                task.run("decode", "--model-lib", library)["seconds_per_token"],
                task.run("decode")["seconds_per_token"],
            )
            for _ in range(task.rounds)
        ]
    return {
        "microseconds_per_token": statistics.median(whole for _, whole in runs) * 1e6,
        "without_kernels_microseconds_per_token": statistics.median(bare for bare, _ in runs) * 1e6,
        "share": statistics.median(bare / whole for bare, whole in runs),
    }


LIMITS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "bandwidth": bandwidth,
    "load": load,
    "idle": idle,
    "overhead": overhead,
}


def _output(command: list[str], **environment: str) -> str:
    """What a child writes to stdout."""
    variables = {**os.environ, **environment}
    result = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=variables
    )
    return result.stdout


def shown(value: Any) -> str:
    """A figure, or a list of figures, with three digits."""
    if isinstance(value, list):
        return " ".join(shown(item) for item in value)
    return f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("limits", nargs="*", metavar="LIMIT", help=", ".join(LIMITS))
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama-1.1b")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="for the models")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--context", type=int, default=4096, help="size of the KV cache")
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    arguments = parser.parse_args()
    if unknown := set(arguments.limits) - LIMITS.keys():
        parser.error(f"no such limit: {', '.join(unknown)}; there are {', '.join(LIMITS)}")
    folder = arguments.work.resolve() / f"{arguments.shape}-q4f16_1"
    prepare(folder, sys.executable, "random_model", arguments.shape, str(folder))
    task = Task(
        SHAPES[arguments.shape],
        folder,
        arguments.threads,
        arguments.context,
        arguments.prompt,
        arguments.rounds,
    )
    report = {}
    for name in arguments.limits or LIMITS:
        report[name] = LIMITS[name](task)
        print(f"{name}, {arguments.shape}, {arguments.threads} threads")
        for key, value in report[name].items():
            print(f"  {key.replace('_', ' '):36} {shown(value)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
