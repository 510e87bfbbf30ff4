"""Compare mlc_llm with its peers where many answers are written: one shape, alternating rounds.

``speed``    tokens of all streams a second. Each stream has a prompt, which the KV cache holds
             already, and in every step gets a token. The peers are llama.cpp's own
             ``llama-batched-bench``, which copies one prompt to all streams and chooses no tokens,
             and the ContinuousBatchingPipeline of openvino-genai. All have the weights that
             ``compare`` calls q4. A figure is the median over the rounds.
``arrival``  mlc_llm alone: a long prompt arrives while answers are written. How long their tokens
             take before and meanwhile, and when the long prompt's answer begins, against a model
             with nothing else to do.

Prints a table of each, and with ``--json`` writes all that was measured.

    python -m benchmarks.streams speed --batched-bench B --openvino-python P/bin/python
    python -m benchmarks.streams arrival --shape smollm2-135m
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.batched_bench import BatchedBench
from benchmarks.child import Child
from benchmarks.compare import processor
from benchmarks.contention import Usage
from benchmarks.contestants import (
    OPENVINO_GROUPS,
    Setup,
    default_sides,
    gguf_file,
    mlc_model,
    openvino_model,
    openvino_properties,
)
from benchmarks.results import (
    OURS,
    REFERENCE,
    RowSamples,
    Samples,
    best_of,
    contention,
    implementations,
    markdown,
    ratio,
)
from benchmarks.shapes import SHAPES

STREAMS = (1, 2, 4, 8, 16)

Results = dict[int, dict[str, Samples]]
"""Tokens per second of all streams, by the number of streams and the side."""


class Side(Protocol):
    """One implementation under measurement."""

    about: dict[str, Any]

    def seconds(self, request: dict[str, Any], /) -> float:
        """Seconds in which each of ``streams`` gets ``steps`` tokens after a prompt."""


def start(name: str, setup: Setup, arguments: argparse.Namespace) -> Child | BatchedBench:
    """Start a side, with a model that is made first if need be."""
    if name == REFERENCE:
        return BatchedBench(
            arguments.batched_bench, gguf_file(setup), setup.threads, setup.flash_attention
        )
    if name == OURS:
        return our_side(setup)
    command = [setup.openvino_python, "-m", "benchmarks.streams_openvino_side"]
    command += [str(openvino_model(setup, OPENVINO_GROUPS[name]))]
    command += ["--streams", str(max(arguments.streams))]
    properties = openvino_properties(setup, name)
    return _child([*command, "--properties", json.dumps(properties)], setup)


def our_side(setup: Setup) -> Child:
    """Start mlc_llm's side."""
    command = [sys.executable, "-m", "benchmarks.streams_mlc_side", str(mlc_model(setup))]
    command += ["--context", str(setup.room)]
    return _child([*command, *(["--opt", setup.opt] if setup.opt else [])], setup)


def _child(command: list[str], setup: Setup) -> Child:
    return Child([*command, "--threads", str(setup.threads)], setup.threads)


def measure(
    sides: Mapping[str, Side], counts: list[int], tokens: int, steps: int, rounds: int
) -> Results:
    """Measure each number of streams on each side, in turn, after a warm-up.

    Every second round goes through the sides backwards, so that a machine that grows slower
    favours none.
    """
    results: Results = {}
    for streams in counts:
        request = {"measure": "streams", "streams": streams, "tokens": tokens, "steps": steps}
        for side in sides.values():
            if not isinstance(side, BatchedBench):  # which warms up in each run
                side.seconds(request)
        samples = {name: Samples() for name in sides}
        for number in range(rounds):
            for name in list(sides)[:: -1 if number % 2 else 1]:
                sample(sides[name], request, samples[name])
        results[streams] = samples
    return results


def sample(side: Side, request: dict[str, Any], samples: Samples) -> None:
    """Measure once more, and note what others took of the CPU, where that is known."""
    before = Usage.of(side.process.pid) if isinstance(side, Child) else None
    seconds = side.seconds(request)
    after = Usage.of(side.process.pid) if isinstance(side, Child) else None
    samples.values.append(request["streams"] * request["steps"] / seconds)
    if before is not None and after is not None:
        samples.others.append(after.others_since(before))


def table(results: Mapping[int, RowSamples]) -> list[list[str]]:
    """The table's lines, its header first.

    Each implementation has its median and range, of its fastest variant; then come our ratios to
    our single stream, and to each peer with as many streams.
    """
    names = implementations({str(streams): row for streams, row in results.items()})
    peers = [name for name in names if name != OURS]
    header = ["streams, tok/s", *(title for name in names for title in (name, "range"))]
    lines = [[*header, "/ one stream", *(f"/ {peer}" for peer in peers)]]
    for streams, row in results.items():
        line = [str(streams)]
        for name in names:
            side = best_of(row, name)
            line += ["-", "-"] if side is None else [f"{row[side].median:.1f}", row[side].spread]
        line.append(_figure(gain(results, streams)))
        lines.append([*line, *(_figure(ratio(row, best_of(row, peer))) for peer in peers)])
    return lines


def gain(results: Mapping[int, RowSamples], streams: int) -> float | None:
    """Our speed over that of our single stream; None where one of them was not measured."""
    if 1 not in results or OURS not in results[1] or OURS not in results[streams]:
        return None
    return results[streams][OURS].median / results[1][OURS].median


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def speed(arguments: argparse.Namespace, setup: Setup) -> dict[str, Any]:
    """Measure and print the speed of all streams; returns everything."""
    names = arguments.sides or [
        name for name in default_sides(arguments.shape, "q4") if name in SIDES
    ]
    with ExitStack() as stack:
        sides: dict[str, Child | BatchedBench] = {}
        for name in names:
            sides[name] = start(name, setup, arguments)
            stack.enter_context(sides[name])
        about = {name: side.about for name, side in sides.items()}
        results = measure(
            sides, arguments.streams, arguments.tokens, arguments.steps, arguments.rounds
        )
    for name, details in about.items():
        print(f"- {name}: {details['version']}")
    print(f"\n{markdown(table(results))}")
    if remark := contention({str(streams): row for streams, row in results.items()}):
        print(f"\n{remark}")
    values = {
        streams: {name: samples.values for name, samples in row.items()}
        for streams, row in results.items()
    }
    return {"sides": about, "tokens_per_second": values}


def arrival(arguments: argparse.Namespace, setup: Setup) -> dict[str, Any]:
    """Measure and print what a long prompt does that arrives; returns everything."""
    request = {
        "measure": "arrival",
        "streams": max(arguments.streams),
        "tokens": arguments.tokens,
        "steps": arguments.steps,
        "arriving": arguments.arriving,
    }
    with our_side(setup) as side:
        rounds = [side.ask(request) for _ in range(1 + arguments.rounds)][1:]
        about = side.about
    print(f"- {OURS}: {about['version']}\n\n{markdown(arrival_table(rounds))}")
    return {"sides": {OURS: about}, "request": request, "rounds": rounds}


def arrival_table(rounds: list[dict[str, Any]]) -> list[list[str]]:
    """The table's lines: of all rounds together between tokens, of the rounds' medians else."""
    lines = [["ms", "before or alone", "while it is read", "ratio"]]
    for name, share in (("median", 50), ("p99", 99)):
        gaps = [
            float(np.percentile([gap for one in rounds for gap in one[when]], share))
            for when in ("before", "during")
        ]
        lines.append(_compared(f"between two tokens, {name}", *gaps))
    starts = [statistics.median(one[when] for one in rounds) for when in ("alone", "first_token")]
    return [*lines, _compared("to the first token of the long prompt", *starts)]


def _compared(label: str, before: float, during: float) -> list[str]:
    return [label, f"{1e3 * before:.1f}", f"{1e3 * during:.1f}", f"{during / before:.2f}"]


SIDES = (OURS, REFERENCE, *OPENVINO_GROUPS)
RUNS: dict[str, Callable[[argparse.Namespace, Setup], dict[str, Any]]] = {
    "speed": speed,
    "arrival": arrival,
}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measurement", choices=list(RUNS))
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama-1.1b")
    parser.add_argument("--streams", nargs="+", type=int, default=[*STREAMS], metavar="COUNT")
    parser.add_argument("--sides", nargs="+", choices=SIDES, metavar="SIDE")
    parser.add_argument("--tokens", type=int, default=256, help="of each stream's prompt")
    parser.add_argument("--steps", type=int, default=48, help="tokens of each stream")
    parser.add_argument("--arriving", type=int, default=1536, help="tokens of the long prompt")
    parser.add_argument(
        "--batched-bench",
        type=Path,
        default=Path("build/bench/llama-cpp/build/bin/llama-batched-bench"),
        help="llama.cpp's program",
    )
    parser.add_argument("--llama-cpp-python", default=sys.executable, help="has gguf")
    parser.add_argument(
        "--openvino-python", default=sys.executable, help="has openvino_genai and optimum-intel"
    )
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="for the models")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--opt", default="", help="compilation options of mlc_llm")
    parser.add_argument("--flash-attention", action="store_true", help="in llama.cpp")
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    arguments = parser.parse_args(words)
    if min(arguments.streams) < 1:
        parser.error("--streams must be whole numbers from 1")
    arguments.streams = sorted({*arguments.streams})
    return arguments


def main() -> None:
    arguments = parse()
    setup = Setup(
        shape=arguments.shape,
        weights="q4",
        threads=arguments.threads,
        room=4 * max(arguments.tokens + arguments.steps + 1, arguments.arriving),
        work=arguments.work,
        opt=arguments.opt,
        flash_attention=arguments.flash_attention,
        llama_cpp_python=arguments.llama_cpp_python,
        openvino_python=arguments.openvino_python,
    )
    print(f"{arguments.shape}, on {processor()}, {arguments.threads} threads, medians")
    measured = RUNS[arguments.measurement](arguments, setup)
    if arguments.json:
        everything = {"shape": arguments.shape, "processor": processor(), **measured}
        arguments.json.write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
