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
from types import TracebackType
from typing import Any, Self

from benchmarks.shapes import SHAPES

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Row:
    """One line of the table: a request to both sides, and the tokens that it counts."""

    label: str
    request: dict[str, Any]
    tokens: int


@dataclass
class Samples:
    """Tokens per second that one side reached in one row, a value a round."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{min(self.values):.1f}-{max(self.values):.1f}"


class Child:
    """A side in a child process; ends with the ``with`` block.

    Args:
        command: the interpreter and its arguments.
        threads: threads that the side may use.
    """

    def __init__(self, command: list[str], threads: int) -> None:
        # OpenMP's and TVM's pools are sized by their variables where no argument reaches them.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TVM_NUM_THREADS": str(threads),
        }
        self.command = command
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self.about: dict[str, Any] = self._receive()["ready"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"A side ended with code {self.process.wait()}: {' '.join(self.command)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def seconds(self, request: dict[str, Any]) -> float:
        """What ``request`` took on this side."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return float(self._receive()["seconds"])


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
    sides: dict[str, Child], table: list[Row], rounds: int
) -> dict[str, dict[str, Samples]]:
    """Tokens per second by row and side, after one warm-up of every row on every side."""
    results: dict[str, dict[str, Samples]] = {}
    for row in table:
        for child in sides.values():
            child.seconds(row.request)
        samples = {name: Samples() for name in sides}
        for _ in range(rounds):
            for name, child in sides.items():
                samples[name].values.append(row.tokens / child.seconds(row.request))
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
    room = max(arguments.contexts) + arguments.steps + 1
    room = max(room, arguments.prompt, 512)
    common = ["--threads", str(arguments.threads), "--context", str(room)]
    work = arguments.work.resolve()
    sides: dict[str, Child] = {}
    if "mlc_llm" in arguments.sides:
        folder = prepare(
            "random_model", sys.executable, arguments.shape, work / f"{arguments.shape}-q4f16_1"
        )
        command = [sys.executable, "-m", "benchmarks.mlc_side", str(folder), *common]
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
        command = [arguments.peer_python, "-m", "benchmarks.llama_cpp_side", str(file), *common]
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
    parser.add_argument("--opt", default="", help="compilation options of mlc_llm")
    parser.add_argument("--flash-attention", action="store_true", help="in llama.cpp")
    parser.add_argument(
        "--sides", nargs="+", choices=["mlc_llm", "llama.cpp"], default=["mlc_llm", "llama.cpp"]
    )
    parser.add_argument("--json", type=Path, help="write everything that was measured here")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    load_before = os.getloadavg()[0]
    with ExitStack() as stack:
        sides = start_sides(arguments, stack)
        about = {name: child.about for name, child in sides.items()}
        table = rows(arguments.contexts, arguments.prompt, arguments.steps)
        results = measure(sides, table, arguments.rounds)
    print(
        f"{arguments.shape} on {processor()}, {arguments.threads} threads, "
        f"{arguments.rounds} alternating rounds, medians; load before: {load_before:.1f}"
    )
    for details in about.values():
        print(f"- {details['name']}: {details['version']}")
    print()
    print_table(results)
    if arguments.json:
        report = {
            "shape": arguments.shape,
            "processor": processor(),
            "threads": arguments.threads,
            "load_before": load_before,
            "sides": about,
            "tokens_per_second": {
                label: {name: side.values for name, side in samples.items()}
                for label, samples in results.items()
            },
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
