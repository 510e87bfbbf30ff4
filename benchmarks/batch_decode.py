"""Decoding some sequences in one pass: what each more of them costs.

Every sequence holds a prompt of its own, and a pass gives each of them a token. Passes of some
numbers of sequences, and a prefill of one prompt, are measured in turn, with one library or with
several of the same model, of this checkout and of others. The fastest of each counts, as what else
runs on the machine can only slow them down; medians are shown beside.

    mlc_llm compile build/bench/tinyllama-1.1b-q4f16_1 -o build/bench/tinyllama.so
    python -m benchmarks.batch_decode build/bench/tinyllama-1.1b-q4f16_1 build/bench/tinyllama.so

The activations of a prompt are rounded as those of answers where the library was compiled with
``--opt activations=a16``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.sequence import Run
from mlc_llm.runtime.threads import use_threads
from mlc_llm.weights.folder import ModelFolder

PREFILL = 0
"""Stands among the numbers of sequences for a prefill."""

PROMPT, PASSES = 128, 2
"""Tokens of the measured prompt, and passes of a measurement."""


class Sequences:
    """A model whose cache holds some sequences of the same length.

    Args:
        folder: the model folder.
        path: its library.
        most: how many sequences.
        context: tokens of each.
    """

    def __init__(self, folder: ModelFolder, path: Path, most: int, context: int) -> None:
        import tvm

        device = tvm.cpu()
        library = CompiledLibrary(path, device)
        parameters = load_parameters(library, folder, device, Stop())
        self.functions = ModelFunctions(library, parameters, device, folder.config.vocab_size)
        length = max(context + PASSES, PROMPT)
        self.cache = KVCache(library.metadata.kv_cache, length, length, device, most + 1)
        self.functions.use(self.cache)
        self.context, self.empty = context, self.cache.add()
        self.held = [self.cache.add() for _ in range(most)]
        for number, sequence in enumerate(self.held):
            self.functions.prefill([Run(sequence, _tokens(context, number))])

    def rate(self, count: int) -> float:
        """Tokens a second of a decode of some sequences, or of a prefill (:data:`PREFILL`)."""
        return self._decode(count) if count else self._prefill()

    def _decode(self, count: int) -> float:
        some = self.held[:count]
        begin = time.perf_counter()
        for _ in range(PASSES):
            self.functions.decode([Run(sequence, (5,)) for sequence in some])
        seconds = time.perf_counter() - begin
        for sequence in some:
            sequence.truncate(self.context)
        return PASSES * count / seconds

    def _prefill(self) -> float:
        begin = time.perf_counter()
        self.functions.prefill([Run(self.empty, _tokens(PROMPT, 0))])
        seconds = time.perf_counter() - begin
        self.empty.truncate(0)
        return PROMPT / seconds


def _tokens(count: int, number: int) -> list[int]:
    return [3 + (7 * number + i) % 200 for i in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a model folder of benchmarks.random_model")
    parser.add_argument("libraries", type=Path, nargs="+", help="libraries of that model")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--context", type=int, default=256, help="tokens of each sequence")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    use_threads(arguments.threads)
    folder, counts = ModelFolder.open(arguments.model), [*arguments.sequences, PREFILL]
    sides = [
        Sequences(folder, path, max(counts), arguments.context) for path in arguments.libraries
    ]
    rates: dict[tuple[int, int], list[float]] = {}
    for number in range(-1, arguments.rounds):  # what comes before the first round is not counted
        for count in counts:
            for side, one in enumerate(sides):
                rate = one.rate(count)
                if number >= 0:
                    rates.setdefault((side, count), []).append(rate)
    for count in counts:
        label = f"{count:3} sequences" if count else f"prefill {PROMPT}  "
        print(label, *(_described(rates, side, count) for side in range(len(sides))), sep="   ")


def _described(rates: dict[tuple[int, int], list[float]], side: int, count: int) -> str:
    """One library's rate, over that of its single sequence, and over the first library's."""
    own = rates[side, count]
    text = f"{max(own):7.1f} tok/s (median {statistics.median(own):.1f})"
    if (side, 1) in rates:
        text += f" {max(own) / max(rates[side, 1]):5.2f}x"
    if side:
        text += f", {max(own) / max(rates[0, count]):.2f} of the first"
    return text


if __name__ == "__main__":
    main()
