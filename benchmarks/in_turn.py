"""Two checkouts of this project in turn: is what was fast still fast?

Each holds the same model in a process of its own, with this interpreter's packages, and they are
measured alternately. A ratio is that of two measurements beside each other, and the median of the
ratios counts.

    git worktree add build/before HEAD~1
    python -m benchmarks.in_turn build/before build/bench/tinyllama-1.1b-q4f16_1 prefill:128
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.child import ROOT, Child
from benchmarks.compare import Prompts, measure
from benchmarks.rows import Row


def side(tree: Path, arguments: argparse.Namespace) -> Child:
    """Start the model with the code of a checkout."""
    sizes = ["--threads", str(arguments.threads), "--context", str(arguments.context)]
    model = str(arguments.model.absolute())
    command = [sys.executable, "-m", "benchmarks.mlc_side", model, *sizes, "--opt", arguments.opt]
    return Child(command, arguments.threads, tree)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("model", type=Path, help="a model folder of benchmarks.random_model")
    parser.add_argument("rows", nargs="+", type=Row.parse, help="prefill:128 or decode:1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--context", type=int, default=4300, help="size of the KV cache")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--opt", default="", help="compilation options")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        trees = {"before": arguments.before.absolute(), "after": ROOT}
        sides = {name: stack.enter_context(side(tree, arguments)) for name, tree in trees.items()}
        prompts = Prompts()  # for all rows: a prompt that was read before would not be read again
        for row in arguments.rows:
            results = measure(sides, [row], arguments.rounds, 1.0, prompts)
            samples = results[row.label]
            before, after = (samples[name].values for name in trees)
            ratios = [new / old for old, new in zip(before, after, strict=True)]
            print(
                f"{row.label:15} {statistics.median(before):8.1f} {statistics.median(after):8.1f} "
                f"tok/s  {statistics.median(ratios):.3f} ({min(ratios):.2f}-{max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
