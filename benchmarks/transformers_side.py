"""The side of Hugging Face transformers: a child process of ``compare``; random weights."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
import transformers

from benchmarks.protocol import serve, tokens
from benchmarks.random_checkpoint import hf_config
from benchmarks.shapes import SHAPES


class Transformers:
    """A model of a named shape in transformers on the CPU, in PyTorch's eager mode.

    Args:
        shape: the shape's name.
        dtype: of weights and activations, ``float32`` or ``bfloat16``.
        threads: threads for prefill and decode.
    """

    def __init__(self, shape: str, dtype: str, threads: int) -> None:
        torch.set_num_threads(threads)
        settings = hf_config(SHAPES[shape], dtype)
        config = transformers.AutoConfig.for_model(**settings)
        self.model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()
        self.dtype = dtype
        self.held: tuple[str, transformers.DynamicCache] | None = None

    def about(self) -> dict[str, Any]:
        return {
            "name": "transformers",
            "version": f"{transformers.__version__}, torch {torch.__version__}",
            "dtype": self.dtype,
            "attention": "sdpa",
            "threads": torch.get_num_threads(),
        }

    def _step(self, ids: list[int], cache: transformers.DynamicCache) -> int:
        """Append tokens to the cache; returns the likeliest next one."""
        output = self.model(
            input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return int(output.logits[0, -1].argmax())

    @torch.inference_mode()
    def prefill(self, text: str) -> float:
        ids = tokens(text)
        begin = time.perf_counter()
        self._step(ids, transformers.DynamicCache())
        return time.perf_counter() - begin

    @torch.inference_mode()
    def decode(self, text: str, steps: int) -> float:
        ids = tokens(text)
        if self.held is None or self.held[0] != text:
            cache = transformers.DynamicCache()
            self._step(ids, cache)
            self.held = (text, cache)
        cache = self.held[1]
        # Negative: how many tokens go.
        cache.crop(len(ids) - 1 - cache.get_seq_length())
        token = self._step(ids[-1:], cache)
        begin = time.perf_counter()
        for _ in range(steps):
            token = self._step([token], cache)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    arguments = parser.parse_args()
    serve(Transformers(arguments.shape, arguments.dtype, arguments.threads))


if __name__ == "__main__":
    main()
