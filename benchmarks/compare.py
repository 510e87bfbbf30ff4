"""Compare mlc_llm with its peers on the CPU: one shape, random weights, alternating rounds.

The peers are llama.cpp (through llama-cpp-python), openvino-genai and, for float weights,
transformers. Each side holds its model in a child process of its own environment, is used through
its public API, and is measured in turns with the others, so that what else the machine does meets
all of them. A row's figure is the median over the rounds.

With ``--weights q4``, mlc_llm runs q4f16_1, llama.cpp Q4_0 with flash attention off (its faster
setting on a CPU), and OpenVINO symmetric INT4 in groups of 32 and of 128, of which the faster one
counts. With ``gguf``, mlc_llm and llama.cpp run the same file: that of ``--file``, which has the
shape, or a random one in the types of Q4_K_M. ``f16`` compares q0f16, F16 and bfloat16
(transformers), ``f32`` float32 everywhere.

Models that share their embedding table with the output head (``qwen3-0.6b``, ``gemma3-1b``) store
this one matrix in 4 bits in groups of 32 in mlc_llm and in llama.cpp, and in 8 bits with one scale
a row in OpenVINO.

Prints a table, and with ``--json`` writes all that was measured.

    python -m benchmarks.compare --llama-cpp-python A/bin/python --openvino-python B/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.child import Child
from benchmarks.contention import Usage
from benchmarks.contestants import SIDES, WEIGHTS, Setup, default_sides, start
from benchmarks.results import Samples, contention, markdown, table
from benchmarks.rows import STEPS, Row, default_rows
from benchmarks.shapes import SHAPES

ATTEMPTS = 10
"""How often a run is measured at most where `--quiet` asks for a machine that is idle else."""

Results = dict[str, dict[str, Samples]]
"""Samples by row and side."""


class Prompts:
    """Counts the measurements, so that each prefill has a prompt of its own."""

    def __init__(self) -> None:
        self.count = 0

    def request(self, row: Row) -> dict[str, Any]:
        self.count += 1
        return row.request(self.count)


def sample(child: Child, row: Row, prompts: Prompts, samples: Samples, quiet: float) -> None:
    """Measure a row once more.

    Args:
        child: the side.
        row: what to measure.
        prompts: gives the request.
        samples: where the figure goes.
        quiet: measure again, a few times, while others take more than this share of the CPU;
            the quietest run counts.
    """
    runs: list[tuple[float, float]] = []
    for _ in range(ATTEMPTS):
        before = Usage.of(child.process.pid)
        speed = row.tokens / child.seconds(prompts.request(row))
        after = Usage.of(child.process.pid)
        if before is None or after is None:
            samples.values.append(speed)
            return
        runs.append((after.others_since(before), speed))
        if runs[-1][0] <= quiet:
            break
    others, speed = min(runs)
    samples.values.append(speed)
    samples.others.append(others)


def measure(
    sides: dict[str, Child], rows: list[Row], rounds: int, quiet: float, prompts: Prompts
) -> Results:
    """Tokens per second by row and side, after one warm-up of every row on every side.

    Every second round goes through the sides backwards, so that a machine that grows slower
    favours none.
    """
    results: Results = {}
    for row in rows:
        for child in sides.values():
            child.seconds(prompts.request(row))
        samples = {name: Samples() for name in sides}
        for number in range(rounds):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                sample(sides[name], row, prompts, samples[name], quiet)
        results[row.label] = samples
    return results


def processor() -> str:
    """The CPU's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def run(arguments: argparse.Namespace) -> tuple[dict[str, Any], Results]:
    """Measure what was asked for: what the sides say of themselves, and the samples."""
    names = arguments.sides or default_sides(arguments.shape, arguments.weights)
    texts = arguments.rows or default_rows(arguments.shape, arguments.weights)
    rows = [Row.parse(text, arguments.steps) for text in texts]
    setup = Setup(
        shape=arguments.shape,
        weights=arguments.weights,
        threads=arguments.threads,
        room=max(512, *(row.room for row in rows)),
        work=arguments.work,
        file=arguments.file,
        opt=arguments.opt,
        flash_attention=arguments.flash_attention,
        llama_cpp_python=arguments.llama_cpp_python,
        openvino_python=arguments.openvino_python,
        openvino_properties=arguments.openvino_properties,
    )
    with ExitStack() as stack:
        sides = {name: stack.enter_context(start(name, setup)) for name in names}
        about = {name: child.about for name, child in sides.items()}
        return about, measure(sides, rows, arguments.rounds, arguments.quiet, Prompts())


def report(arguments: argparse.Namespace, about: dict[str, Any], results: Results) -> None:
    """Print the table with what belongs to it."""
    print(
        f"{arguments.shape}, {arguments.weights}, on {processor()}, {arguments.threads} threads, "
        f"{arguments.rounds} alternating rounds, medians"
    )
    for name, details in about.items():
        print(f"- {name}: {details['version']}")
    print(f"\n{markdown(table(results))}")
    if remark := contention(results):
        print(f"\n{remark}")


def as_json(arguments: argparse.Namespace, about: dict[str, Any], results: Results) -> str:
    """All that was measured."""
    everything = {
        "shape": arguments.shape,
        "weights": arguments.weights,
        "processor": processor(),
        "threads": arguments.threads,
        "sides": about,
        "tokens_per_second": {
            label: {name: samples.values for name, samples in row.items()}
            for label, row in results.items()
        },
        "others_share_of_cpu": {
            label: {name: samples.others for name, samples in row.items()}
            for label, row in results.items()
        },
    }
    return json.dumps(everything, indent=2) + "\n"


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama-1.1b")
    parser.add_argument("--weights", choices=WEIGHTS, default="q4")
    parser.add_argument("--file", type=Path, help="a GGUF file of the shape, for --weights gguf")
    parser.add_argument("--rows", nargs="+", metavar="PHASE:TOKENS", help="decode:1024 ...")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), metavar="SIDE")
    parser.add_argument("--llama-cpp-python", default=sys.executable, help="has llama_cpp and gguf")
    parser.add_argument(
        "--openvino-python", default=sys.executable, help="has openvino_genai and optimum-intel"
    )
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="for the models")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS, help="tokens of a decode")
    parser.add_argument(
        "--quiet",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="repeat a run during which other processes took more than this share of the CPU",
    )
    parser.add_argument("--opt", default="", help="compilation options of mlc_llm")
    parser.add_argument("--flash-attention", action="store_true", help="in llama.cpp")
    parser.add_argument(
        "--openvino-properties", type=json.loads, default={}, metavar="JSON", help="of its pipeline"
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    return parser.parse_args(words)


def main() -> None:
    arguments = parse()
    about, results = run(arguments)
    report(arguments, about, results)
    if arguments.json:
        arguments.json.write_text(as_json(arguments, about, results), encoding="utf-8")


if __name__ == "__main__":
    main()
