"""Compare mlc_llm with llama.cpp on the CPU: one shape, random weights, alternating runs.

Both sides hold their model in a child process of their own and are measured in turns, so that
what else the machine does meets both. mlc_llm runs q4f16_1, llama.cpp Q4_0 with flash attention
off (its faster setting on a CPU); both are groups of 32 weights of 4 bits with a float16 scale.
A row's figure is the median over the rounds. Prints a table, and with ``--json`` writes all times.

    python -m benchmarks.compare_llama_cpp --peer-python PEER/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import ROOT, Child
from benchmarks.contention import Usage
from benchmarks.shapes import SHAPES

ATTEMPTS = 10
"""How often a run is measured at most where `--quiet` asks for a machine that is idle else."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a request to both sides, and the tokens that it counts."""

    label: str
    request: dict[str, Any]
    tokens: int


@dataclass
class Samples:
    """What one side reached in one row, a value a round.

    Args:
        values: tokens per second.
        others: the share of the CPU that other processes took meanwhile, where that is known.
    """

    values: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{min(self.values):.1f}-{max(self.values):.1f}"


def sample(child: Child, row: Row, samples: Samples, quiet: float) -> None:
    """Measure a row once more.

    Args:
        child: the side.
        row: what to measure.
        samples: where the figure goes.
        quiet: measure again, a few times, while others take more than this share of the CPU;
            the quietest run counts.
    """
    runs: list[tuple[float, float]] = []
    for _ in range(ATTEMPTS):
        before = Usage.of(child.process.pid)
        speed = row.tokens / child.seconds(row.request)
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


def rows(contexts: list[int], prompt: int, steps: int) -> list[Row]:
    """The table's rows: one prefill, and decoding after each context."""
    prefill = Row(f"prefill {prompt}", {"measure": "prefill", "tokens": prompt}, prompt)
    decode = [
        Row(
            f"decode at {context}",
            {"measure": "decode", "context": context, "steps": steps},
            steps,
        )
        for context in contexts
    ]
    return [prefill, *decode]


def measure(
    sides: dict[str, Child], table: list[Row], rounds: int, quiet: float
) -> dict[str, dict[str, Samples]]:
    """Tokens per second by row and side, after one warm-up of every row on every side."""
    results: dict[str, dict[str, Samples]] = {}
    for row in table:
        for child in sides.values():
            child.seconds(row.request)
        samples = {name: Samples() for name in sides}
        for _ in range(rounds):
            for name, child in sides.items():
                sample(child, row, samples[name], quiet)
        results[row.label] = samples
    return results


def print_table(results: dict[str, dict[str, Samples]]) -> None:
    """Print the medians in tokens per second, the ranges, and the ratio of two sides."""
    names = list(next(iter(results.values())))
    header = ["tok/s"] + [title for name in names for title in (name, "range")]
    lines = []
    for label, samples in results.items():
        line = [label]
        for name in names:
            line += [f"{samples[name].median:.1f}", samples[name].spread]
        if len(names) == 2:
            line.append(f"{samples[names[0]].median / samples[names[1]].median:.2f}")
        lines.append(line)
    if len(names) == 2:
        header.append("ratio")
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join(["---"] * len(header)) + " |")
    for line in lines:
        print("| " + " | ".join(line) + " |")


def print_contention(results: dict[str, dict[str, Samples]]) -> None:
    """Say how busy the machine was with other things, because that makes figures worthless."""
    shares = [share for row in results.values() for side in row.values() for share in side.others]
    if shares:
        print(
            f"\nOther processes took {statistics.median(shares):.0%} of the CPU meanwhile "
            f"(median; at most {max(shares):.0%})."
        )


def processor() -> str:
    """The CPU's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def prepare(script: str, python: str, shape: str, output: Path) -> Path:
    """Make a random model with ``benchmarks.SCRIPT`` unless an earlier run made it."""
    if not output.exists():
        print(f"Writing {output}", file=sys.stderr)
        command = [python, "-m", f"benchmarks.{script}", shape, str(output)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return output


def start_sides(arguments: argparse.Namespace, stack: ExitStack) -> dict[str, Child]:
    """Start the sides that were asked for; each has loaded its model when this returns.

    They end when ``stack`` closes.
    """
    tokens = max(arguments.prompt, max(arguments.contexts) + arguments.steps + 1, 512)
    room = ["--context", str(tokens)]
    work = arguments.work.resolve()
    sides: dict[str, Child] = {}
    if "mlc_llm" in arguments.sides:
        folder = prepare(
            "random_model", sys.executable, arguments.shape, work / f"{arguments.shape}-q4f16_1"
        )
        command = [sys.executable, "-m", "benchmarks.mlc_side", str(folder), *room]
        if arguments.opt:
            command += ["--opt", arguments.opt]
        sides["mlc_llm"] = stack.enter_context(Child(command, arguments.threads))
    if "llama.cpp" in arguments.sides:
        file = prepare(
            "random_gguf",
            arguments.peer_python,
            arguments.shape,
            work / f"{arguments.shape}-q4_0.gguf",
        )
        command = [arguments.peer_python, "-m", "benchmarks.llama_cpp_side", str(file), *room]
        command += ["--threads", str(arguments.threads)]
        if arguments.flash_attention:
            command.append("--flash-attention")
        sides["llama.cpp"] = stack.enter_context(Child(command, arguments.threads))
    return sides


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tinyllama-1.1b")
    parser.add_argument("--peer-python", default=sys.executable, help="has llama_cpp and gguf")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="for the models")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prefill")
    parser.add_argument("--contexts", type=int, nargs="+", default=[16, 1024])
    parser.add_argument("--steps", type=int, default=48, help="tokens of a decode")
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
        "--sides", nargs="+", choices=["mlc_llm", "llama.cpp"], default=["mlc_llm", "llama.cpp"]
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    with ExitStack() as stack:
        sides = start_sides(arguments, stack)
        about = {name: child.about for name, child in sides.items()}
        table = rows(arguments.contexts, arguments.prompt, arguments.steps)
        results = measure(sides, table, arguments.rounds, arguments.quiet)
    print(
        f"{arguments.shape} on {processor()}, {arguments.threads} threads, "
        f"{arguments.rounds} alternating rounds, medians"
    )
    for details in about.values():
        print(f"- {details['name']}: {details['version']}")
    print()
    print_table(results)
    print_contention(results)
    if arguments.json:
        report = {
            "shape": arguments.shape,
            "processor": processor(),
            "threads": arguments.threads,
            "sides": about,
            "tokens_per_second": {
                label: {name: side.values for name, side in samples.items()}
                for label, samples in results.items()
            },
            "others_share_of_cpu": {
                label: {name: side.others for name, side in samples.items()}
                for label, samples in results.items()
            },
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
