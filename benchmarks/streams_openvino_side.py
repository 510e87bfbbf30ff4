"""The side of OpenVINO where many answers are written: a child process of ``streams``.

Uses ``ContinuousBatchingPipeline``, which has a paged cache and finds prompts in it again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.openvino_side import in_force
from benchmarks.protocol import answer_requests, prompt, tokens

CACHE_GIGABYTES = 2


class ContinuousBatching:
    """An exported model on the CPU.

    Args:
        path: the folder that ``optimum-cli export openvino`` wrote.
        threads: threads for prefill and decode.
        properties: of the pipeline, over the plugin's own defaults.
        streams: most answers at a time.
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, str], streams: int) -> None:
        self.properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            **properties,
        }
        self.in_force = in_force(path, self.properties)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GIGABYTES
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = streams
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(path), scheduler, "CPU", self.properties
        )
        self._requests = 0

    def about(self) -> dict[str, Any]:
        return {
            "name": "openvino-genai",
            "version": f"{openvino_genai.__version__}, openvino {openvino.__version__}",
            "set": self.properties,
            "in_force": self.in_force,
        }

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds in which each stream gets that number of tokens, after its first one."""
        steps = request["steps"]
        handles = [
            self._add(prompt(request["tokens"], stream), steps + 1)
            for stream in range(request["streams"])
        ]
        counts = [0] * len(handles)
        begin = written = 0.0
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
            now = time.perf_counter()
            for index, handle in enumerate(handles):
                counts[index] += _new_tokens(handle)
            if not begin and all(counts):
                begin, written = now, sum(counts)
        # Where some streams begin later than others, there are more tokens before all have begun.
        share = (sum(counts) - written) / (steps * len(handles))
        return {"seconds": (now - begin) / share}

    def _add(self, text: str, count: int) -> Any:
        self._requests += 1
        config = openvino_genai.GenerationConfig(
            max_new_tokens=count, ignore_eos=True, do_sample=False
        )
        ids = openvino.Tensor(np.array([tokens(text)], np.int64))
        return self.pipeline.add_request(self._requests, ids, config)


def _new_tokens(handle: Any) -> int:
    """How many tokens of an answer came since the last look."""
    count = 0
    while handle.can_read():
        count += sum(len(output.generated_ids) for output in handle.read().values())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--properties", type=json.loads, default={}, help="as JSON")
    arguments = parser.parse_args()
    side = ContinuousBatching(
        arguments.model, arguments.threads, arguments.properties, arguments.streams
    )
    answer_requests(side.about(), side.measure)


if __name__ == "__main__":
    main()
