"""One measurement of mlc_llm in a process of its own: a child of ``limits``. Prints JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.protocol import prompt
from mlc_llm import ChatConfig, ChatModule, ConvConfig, GenerationConfig

# As a chat on the command line does: only TVM's runtime is loaded.
os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")

PAUSE = 0.05
"""Seconds after a generation from which on no CPU should be used."""

WATCHED = 1.0
"""Seconds that the idle process is watched for."""


def chat_of(arguments: argparse.Namespace) -> ChatModule:
    """The model, with exactly the prompt's tokens before it and no token that ends an answer."""
    config = ChatConfig(
        conv_template="LM",
        conv_config=ConvConfig(system_prefix_token_ids=[], stop_token_ids=[]),
        context_window_size=arguments.context,
        prefill_chunk_size=min(arguments.context, 2048),
        num_threads=arguments.threads,
    )
    return ChatModule(str(arguments.model), "cpu", config, arguments.model_lib)


def memory() -> dict[str, int]:
    """Bytes of this process: at most so far, and now, with what of it is mapped files (Linux)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"peak": "VmHWM", "resident": "VmRSS", "files": "RssFile"}
    return {name: int(fields[field].split()[0]) * 1024 for name, field in names.items()}


def load(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds to load the model, and the memory before and after it."""
    before = memory()
    begin = time.perf_counter()
    with chat_of(arguments):
        return {"seconds": time.perf_counter() - begin, "before": before, "after": memory()}


def decode(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds a token: the median of several runs after a prompt."""
    greedy = GenerationConfig(temperature=0.0, max_gen_len=arguments.steps + 1)
    times = []
    with chat_of(arguments) as chat:
        for _ in range(1 + arguments.rounds):
            chat.reset_chat()
            chat.generate(prompt(arguments.prompt), greedy)
            times.append(chat.metrics.decode.seconds / chat.metrics.decode.tokens)
    return {"seconds_per_token": statistics.median(times[1:]), "rounds": times[1:]}


def idle(arguments: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds that the process uses in a second that begins shortly after a generation."""
    greedy = GenerationConfig(temperature=0.0, max_gen_len=arguments.steps)
    used = []
    with chat_of(arguments) as chat:
        for _ in range(1 + arguments.rounds):
            chat.generate(prompt(arguments.prompt), greedy)
            time.sleep(PAUSE)
            before = time.process_time()
            time.sleep(WATCHED)
            used.append(time.process_time() - before)
    return {"cpu_seconds": statistics.median(used[1:]), "rounds": used[1:]}


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "load": load,
    "decode": decode,
    "idle": idle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurement", choices=sorted(MEASUREMENTS))
    parser.add_argument("model", type=Path)
    parser.add_argument("--model-lib", help="a compiled library; otherwise it is compiled")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=4096, help="size of the KV cache")
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(json.dumps(MEASUREMENTS[arguments.measurement](arguments)))


if __name__ == "__main__":
    main()
