"""What the kernels should do on GPUs that were not measured: predictions, and what they assume.

    python -m benchmarks.gpu.predictions            # counts again, writes the record and the docs
    python -m benchmarks.gpu.predictions --table    # writes the docs from the record

Counted, on the emulated GPU (:mod:`.counting`): the launches of a token, and the bytes that each
reads and writes. Read, from the machine code of NVIDIA's compiler (:mod:`.machine_code`): registers
and instructions. The rest follows from data sheets:

    memory      bytes / bandwidth
    issue       instructions of all warps / (4 a clock for each multiprocessor that has a block)
    a launch    the longer of the two, and 1.5 to 2 microseconds

A multiprocessor also takes no more than 64 bytes a clock from the L2 cache, so that few blocks read
slowly. How often a loop runs is not in machine code: a kernel's instructions are taken to run as
often as its loads, whose bytes are counted. What this leaves out (waiting for memory, caches that
do not hold what is read twice, the host) makes a real GPU slower than predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.machine_code import Compiler, run_cuobjdump
from benchmarks.random_model import chat_config
from benchmarks.shapes import SHAPES, ModelShape

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("predictions.json")
PAGE = ROOT / "docs" / "cuda.md"
BEGIN, END = "<!-- predictions: begin -->", "<!-- predictions: end -->"

NAMES = {
    "llama-2-7b": "Llama 2 7B",
    "llama-3.1-8b": "Llama 3.1 8B",
    "mistral-7b-v0.1": "Mistral 7B",
    "tinyllama-1.1b": "TinyLlama 1.1B",
}
CONTEXTS = (128, 2048, 8192)
QUANTIZATION = "q4f16_1"
BYTES_A_WEIGHT = (4 + 16 / 32) / 8
LAUNCH_SECONDS = (1.5e-6, 2e-6)
L2_BYTES_A_CLOCK = 64
WARP, ISSUED_A_CLOCK = 32, 4
EMULATOR = ROOT / "plugins" / "cuda" / "emulator"


@dataclass(frozen=True)
class GPU:
    """A GPU as its data sheet has it.

    Args:
        name: what it is called.
        architecture: what is compiled for it.
        bandwidth: of its memory, bytes a second.
        processors: its multiprocessors.
        clock: their boost clock, 1/s.
    """

    name: str
    architecture: str
    bandwidth: float
    processors: int
    clock: float


GPUS = (
    GPU("H100 SXM", "sm_90", 3.35e12, 132, 1.83e9),
    GPU("A100 80 GB", "sm_80", 2.04e12, 108, 1.41e9),
    GPU("RTX 4090", "sm_89", 1.008e12, 128, 2.52e9),
)


@dataclass(frozen=True)
class Launch:
    """Launches of a kernel that are alike, in one token.

    Args:
        kernel: its name.
        calls: how many.
        blocks: of each.
        moved: bytes that it must move between the GPU's memory and its caches.
        read: bytes that its threads load.
        code: by architecture, the ``registers``, the ``instructions`` of its text, and the bytes
            that a thread ``loaded`` if each of them runs once.
    """

    kernel: str
    calls: int
    blocks: int
    moved: int
    read: int
    code: dict[str, dict[str, int]]

    def issued(self, architecture: str) -> float:
        """Instructions of all warps, of one launch."""
        code = self.code[architecture]
        return code["instructions"] * self.read / max(code["loaded"], 1) / WARP

    def memory_seconds(self, gpu: GPU) -> float:
        """How long its bytes take at least."""
        busy = min(self.blocks, gpu.processors)
        return max(self.moved / gpu.bandwidth, self.moved / (busy * L2_BYTES_A_CLOCK * gpu.clock))

    def issue_seconds(self, gpu: GPU) -> float:
        """How long its instructions take at least."""
        busy = min(self.blocks, gpu.processors)
        return self.issued(gpu.architecture) / (ISSUED_A_CLOCK * busy * gpu.clock)


@dataclass(frozen=True)
class Token:
    """One token of a model after some context.

    Args:
        launches: what it takes.
        needed: bytes of weights, keys and values that any way of computing it must read.
    """

    launches: tuple[Launch, ...]
    needed: int

    @property
    def count(self) -> int:
        """How many launches."""
        return sum(launch.calls for launch in self.launches)

    @property
    def moved(self) -> int:
        """Bytes of all."""
        return sum(launch.calls * launch.moved for launch in self.launches)

    def memory_bound(self, gpu: GPU) -> float:
        """Tokens a second if only bytes counted, at the data sheet's bandwidth."""
        return gpu.bandwidth / self.moved

    def issue_bound(self, gpu: GPU) -> float:
        """Tokens a second if only instructions counted."""
        return 1 / sum(launch.calls * launch.issue_seconds(gpu) for launch in self.launches)

    def speeds(self, gpu: GPU) -> list[float]:
        """Tokens a second with everything, for each cost of a launch."""
        work = sum(
            launch.calls * max(launch.memory_seconds(gpu), launch.issue_seconds(gpu))
            for launch in self.launches
        )
        return [1 / (work + self.count * seconds) for seconds in LAUNCH_SECONDS]


def load(path: Path = RECORD) -> dict[str, dict[int, Token]]:
    """The record: tokens by model and context."""
    return {
        name: {
            int(context): Token(tuple(Launch(**one) for one in t["launches"]), t["needed"])
            for context, t in tokens.items()
        }
        for name, tokens in json.loads(path.read_text(encoding="utf-8")).items()
    }


def measure(name: str, contexts: Sequence[int] = CONTEXTS) -> dict[str, Any]:
    """The record of one model: of each context the launches, and the bytes that are needed.

    Args:
        name: the shape.
        contexts: tokens before.
    """
    shape = SHAPES[name]
    codes = _machine_code(shape)
    found = {}
    for context, launches in _counted(name, contexts).items():
        whole = whole_model(launches, shape.layers)
        seen = min(int(context), shape.sliding_window or int(context))
        needed = shape.linear_parameters * BYTES_A_WEIGHT + seen * shape.kv_elements * 2
        found[context] = {"launches": _alike(whole, codes), "needed": round(needed)}
    return found


def whole_model(launches: Sequence[dict[str, Any]], layers: int) -> list[dict[str, Any]]:
    """The launches of a model of some layers, from those of one of three.

    Args:
        launches: of the model of three layers, of which two at least have the same launches.
        layers: how many the whole model has.

    Raises:
        ValueError: nothing in them comes twice.
    """
    names = [(one["kernel"], one["blocks"]) for one in launches]
    for size in range(len(names) // 2, 0, -1):
        for begin in range(len(names) - 2 * size + 1):
            middle = begin + size
            if names[begin:middle] == names[middle : middle + size]:
                layer, rest = list(launches[begin:middle]), list(launches[middle:])
                return [*launches[:begin], *layer * (layers - 2), *rest]
    raise ValueError("no layer of the model is like another")


def _alike(launches: Sequence[dict[str, Any]], codes: dict[str, Any]) -> list[dict[str, Any]]:
    """Launches that are alike as one; those of a layer differ in a few bytes of metadata."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for one in launches:
        kept = found.setdefault(
            (one["kernel"], one["blocks"]),
            {"kernel": one["kernel"], "calls": 0, "blocks": one["blocks"], "moved": 0, "read": 0},
        )
        kept["calls"] += 1
        kept["moved"] += one["moved"]
        kept["read"] += one["read"]
    for kept in found.values():
        for kind in ("moved", "read"):
            kept[kind] = round(kept[kind] / kept["calls"])
        kept["code"] = codes[kept["kernel"]]
    return [*found.values()]


def _counted(name: str, contexts: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    counting = [sys.executable, "-m", "benchmarks.gpu.counting", name, *map(str, contexts)]
    done = subprocess.run(
        [sys.executable, str(EMULATOR), *counting],
        cwd=ROOT,
        env={**os.environ, "GPU_EMULATOR_CHECK": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    counts: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return counts


def _machine_code(shape: ModelShape) -> dict[str, dict[str, dict[str, int]]]:
    """What is recorded of the machine code of each kernel, by architecture."""
    from benchmarks.gpu.counting import LAYERS

    architectures = [gpu.architecture.removeprefix("sm_") for gpu in GPUS]
    config = chat_config(replace(shape, layers=LAYERS), QUANTIZATION)
    with tempfile.TemporaryDirectory() as folder, Compiler(run_cuobjdump) as compiler:
        made = compiler.model(config, sorted(architectures), Path(folder))
    codes: dict[str, dict[str, dict[str, int]]] = {}
    for (architecture, kernel), code in made.items():
        codes.setdefault(kernel, {})[architecture] = {
            "registers": code.registers,
            "instructions": code.length,
            "loaded": code.loaded,
        }
    return codes


def tables(record: dict[str, dict[int, Token]]) -> str:
    """The tables of the docs, as Markdown."""
    return "\n\n".join([_bytes_table(record), _speed_table(record), _kernel_table(record)])


def _bytes_table(record: dict[str, dict[int, Token]]) -> str:
    rows = [["model", "context", "launches a token", "MB a token", "of what must be read"]]
    for name, tokens in record.items():
        for context, token in tokens.items():
            share = f"{100 * token.moved / token.needed:.1f} %"
            moved = f"{token.moved / 1e6:,.0f}"
            rows.append([NAMES[name], str(context), str(token.count), moved, share])
    return _markdown(rows)


def _speed_table(record: dict[str, dict[int, Token]]) -> str:
    rows = [["model", "context", *(f"{gpu.name}: memory / issue / predicted" for gpu in GPUS)]]
    for name, tokens in record.items():
        for context, token in tokens.items():
            cells = []
            for gpu in GPUS:
                fast, slow = token.speeds(gpu)
                bounds = f"{token.memory_bound(gpu):,.0f} / {token.issue_bound(gpu):,.0f}"
                cells.append(f"{bounds} / **{slow:,.0f}-{fast:,.0f}**")
            rows.append([NAMES[name], str(context), *cells])
    return _markdown(rows)


def _kernel_table(record: dict[str, dict[int, Token]]) -> str:
    gpu, context = GPUS[0], CONTEXTS[1]
    rows = [["kernel", "launches", "blocks", "MB", "registers", "instructions a KB", "us, H100"]]
    for launch in record["llama-2-7b"][context].launches:
        seconds = max(launch.memory_seconds(gpu), launch.issue_seconds(gpu))
        rows.append(
            [
                f"`{launch.kernel.removesuffix('_kernel')}`",
                str(launch.calls),
                f"{launch.blocks:,}",
                f"{launch.moved / 1e6:.2f}",
                str(launch.code[gpu.architecture]["registers"]),
                f"{launch.issued(gpu.architecture) / launch.moved * 1e3:.0f}",
                f"{seconds * 1e6:.1f}",
            ]
        )
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def with_tables(page: str, text: str) -> str:
    """A page with other tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only write the docs")
    parser.add_argument("models", nargs="*", help="which to count again; all")
    arguments = parser.parse_args()
    if not arguments.table:
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        for name in arguments.models or NAMES:
            record[name] = measure(name)
            ordered = {one: record[one] for one in NAMES if one in record}
            RECORD.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
            print(f"{name} is counted", flush=True)
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_tables(page, tables(load())), encoding="utf-8")


if __name__ == "__main__":
    main()
