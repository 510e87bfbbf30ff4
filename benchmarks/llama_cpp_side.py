"""The side of llama.cpp: a child process of ``compare``, through llama-cpp-python."""

from __future__ import annotations

import argparse
import time
from typing import Any

import llama_cpp
import numpy as np

from benchmarks.protocol import serve, tokens


class LlamaCpp:
    """A GGUF model in llama.cpp on the CPU.

    Args:
        path: the GGUF file.
        threads: threads for prefill and decode.
        context: size of the KV cache in tokens.
        flash_attention: whether llama.cpp's flash attention is on.
    """

    def __init__(self, path: str, threads: int, context: int, flash_attention: bool) -> None:
        self.settings = {
            "n_threads": threads,
            "n_ctx": context,
            "n_batch": 512,
            "n_ubatch": 512,
            "flash_attn": flash_attention,
            # As llama.cpp's own programs do: layers with a window keep no more than it.
            "swa_full": False,
        }
        self.model = llama_cpp.Llama(path, n_threads_batch=threads, verbose=False, **self.settings)
        # A cache of windows has let go of what a context that is taken up again needs.
        self.keeps = not llama_cpp.llama_model_n_swa(self.model.model)
        self.held: list[int] = []

    def about(self) -> dict[str, Any]:
        system = llama_cpp.llama_print_system_info().decode().strip().rstrip("|").strip()
        return {
            "name": "llama.cpp",
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "system": system,
            **self.settings,
        }

    def _logits(self) -> np.ndarray:
        """The logits of the last token, a view of shape (vocabulary,)."""
        pointer = llama_cpp.llama_get_logits_ith(self.model.ctx, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_vocab(),))

    def prefill(self, text: str) -> float:
        ids = tokens(text)
        self.model.reset()
        begin = time.perf_counter()
        self.model.eval(ids)
        self._logits().argmax()
        seconds = time.perf_counter() - begin
        self.held = ids
        return seconds

    def decode(self, text: str, steps: int) -> float:
        context = tokens(text)
        if self.keeps and self.held[: len(context)] == context:
            self.model.n_tokens = len(context)
        else:
            self.model.reset()
            self.model.eval(context)
        # One step that is not counted: the logits of a kept context are gone.
        token = context[-1]
        self.model.n_tokens = len(context) - 1
        self.model.eval([token])
        token = int(self._logits().argmax())
        begin = time.perf_counter()
        for _ in range(steps):
            self.model.eval([token])
            token = int(self._logits().argmax())
        seconds = time.perf_counter() - begin
        self.held = context
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--flash-attention", action="store_true")
    arguments = parser.parse_args()
    serve(
        LlamaCpp(arguments.model, arguments.threads, arguments.context, arguments.flash_attention)
    )


if __name__ == "__main__":
    main()
