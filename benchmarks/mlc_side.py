"""The side of mlc_llm: a child process of ``compare``, through ``ChatModule``."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.protocol import serve
from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig, __version__
from mlc_llm.version import tvm_version

RAW = ConvConfig(system_prefix_token_ids=[], stop_token_ids=[])
"""The prompt's own tokens, nothing before them; no token ends an answer."""


class MLC:
    """A random model's folder in mlc_llm on the CPU.

    Its library comes from the cache, or is compiled first: the cache's key has the compiler's
    sources in it, so that it is never older than the code.

    Args:
        path: the model folder.
        context: size of the KV cache in tokens.
        threads: how many threads the model uses.
        opt: compilation options.
    """

    def __init__(self, path: Path, context: int, threads: int, opt: str) -> None:
        config = ChatConfig(
            conv_template="LM",
            conv_config=RAW,
            context_window_size=context,
            prefill_chunk_size=min(context, 2048),
            num_threads=threads,
        )
        if opt:
            config.opt = opt
        begin = time.perf_counter()
        self.chat = ChatModule(str(path), "cpu", config)
        self.load_seconds = time.perf_counter() - begin

    def about(self) -> dict[str, Any]:
        config = self.chat.chat_config
        return {
            "name": "mlc_llm",
            "version": f"{__version__}, apache-tvm {tvm_version()}",
            "opt": config.opt,
            "window": config.context_window_size,
            "chunk": config.prefill_chunk_size,
            "threads": config.num_threads,
            "load_seconds": round(self.load_seconds, 2),
        }

    def _generate(self, text: str, tokens: int) -> int:
        """Generate this number of tokens; returns how many of the prompt were prefilled."""
        self.chat.reset_chat()
        self.chat.generate(text, GenerationConfig(temperature=0.0, max_gen_len=tokens))
        (result,) = self.chat.results
        if result.prompt_tokens != len(text) or len(result.token_ids) != tokens:
            raise RuntimeError(
                f"{result.prompt_tokens} and {len(result.token_ids)} tokens were counted instead "
                f"of {len(text)} and {tokens}"
            )
        return result.prefilled_tokens

    def prefill(self, text: str) -> float:
        prefilled = self._generate(text, 1)
        seconds = self.chat.metrics.time_to_first_token
        if prefilled != len(text) or seconds is None:
            raise RuntimeError(f"only {prefilled} of {len(text)} tokens were prefilled")
        return seconds

    def decode(self, text: str, steps: int) -> float:
        self._generate(text, steps + 1)
        return self.chat.metrics.decode.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--opt", default="")
    arguments = parser.parse_args()
    # As a chat on the command line does: only TVM's runtime is loaded.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    serve(MLC(arguments.model, arguments.context, arguments.threads, arguments.opt))


if __name__ == "__main__":
    main()
