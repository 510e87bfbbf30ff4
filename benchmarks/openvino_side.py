"""The side of OpenVINO: a child process of ``compare``, through ``LLMPipeline``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.protocol import serve, tokens

ASKED = (
    "INFERENCE_NUM_THREADS",
    "INFERENCE_PRECISION_HINT",
    "PERFORMANCE_HINT",
    "EXECUTION_MODE_HINT",
    "KV_CACHE_PRECISION",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "ENABLE_CPU_PINNING",
)
"""Properties of the compiled model that the report has, defaults included."""


def in_force(path: Path, properties: dict[str, Any]) -> dict[str, str]:
    """The properties that the model runs with.

    The pipeline does not tell them; the plugin does, for the same model, which is let go of again.
    """
    plugin = {name: value for name, value in properties.items() if name in ASKED}
    compiled = openvino.Core().compile_model(path / "openvino_model.xml", "CPU", plugin)
    return {name: str(compiled.get_property(name)) for name in ASKED}


class OpenVINO:
    """An exported model in openvino-genai on the CPU.

    Args:
        path: the folder that ``optimum-cli export openvino`` wrote.
        threads: threads for prefill and decode.
        properties: of the pipeline, over the plugin's own defaults.
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, str]) -> None:
        self.properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            **properties,
        }
        self.in_force = in_force(path, self.properties)
        self.pipeline = openvino_genai.LLMPipeline(str(path), "CPU", **self.properties)

    def about(self) -> dict[str, Any]:
        return {
            "name": "openvino-genai",
            "version": f"{openvino_genai.__version__}, openvino {openvino.__version__}",
            "set": self.properties,
            "in_force": self.in_force,
        }

    def _generate(self, text: str, count: int) -> openvino_genai.PerfMetrics:
        """Generate this number of tokens; returns the pipeline's own clock."""
        ids = np.array([tokens(text)], np.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
        )
        config = openvino_genai.GenerationConfig(
            max_new_tokens=count, ignore_eos=True, do_sample=False
        )
        result = self.pipeline.generate(inputs, config)
        if len(result.tokens[0]) != count:
            raise RuntimeError(f"{len(result.tokens[0])} tokens came instead of {count}")
        return result.perf_metrics

    def prefill(self, text: str) -> float:
        return float(self._generate(text, 1).get_ttft().mean) / 1000

    def decode(self, text: str, steps: int) -> float:
        # Milliseconds for each token after the first.
        return float(self._generate(text, steps + 1).get_tpot().mean) / 1000 * steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--properties", type=json.loads, default={}, help="as JSON")
    arguments = parser.parse_args()
    serve(OpenVINO(arguments.model, arguments.threads, arguments.properties))


if __name__ == "__main__":
    main()
