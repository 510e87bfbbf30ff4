"""The side of mlc_llm: a child process of ``compare_llama_cpp``."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.compile_time import compile_in_child
from benchmarks.protocol import serve
from mlc_llm import __version__
from mlc_llm.config import ChatConfig
from mlc_llm.plugin import ModelSpec
from mlc_llm.plugin.registry import default_registry
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.threads import configure_threads
from mlc_llm.version import tvm_version
from mlc_llm.weights.folder import ModelFolder

# As a chat on the command line does: only TVM's runtime is loaded.
os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")


class MLC:
    """A model folder in mlc_llm on the CPU, its library compiled by the code as it is now.

    Args:
        path: the model folder.
        context: size of the KV cache in tokens.
        opt: compilation options.
    """

    def __init__(self, path: Path, context: int, opt: str) -> None:
        overlay = ChatConfig(
            context_window_size=context, prefill_chunk_size=min(context, 512), opt=opt
        )
        folder = ModelFolder.open(path)
        config = folder.config.overlaid(overlay)
        registry = default_registry()
        spec = ModelSpec.of(config, registry.architecture(config.model_type), opt)
        configure_threads()
        with tempfile.TemporaryDirectory() as scratch:
            library = Path(scratch) / "library.so"
            self.compile_seconds = compile_in_child(spec, library)
            begin = time.perf_counter()
            device = registry.device("cpu").open(0)
            self.model = LoadedModel.load(library, folder, device, config=config)
            self.load_seconds = time.perf_counter() - begin
        self.spec = spec

    def about(self) -> dict[str, Any]:
        return {
            "name": "mlc_llm",
            "version": f"{__version__}, apache-tvm {tvm_version()}",
            "quantization": self.spec.quantization,
            "opt": self.spec.opt,
            "window": self.model.window.size,
            "chunk": self.model.window.chunk,
            "threads": os.environ.get("TVM_NUM_THREADS"),
            "compile_seconds": round(self.compile_seconds, 2),
            "load_seconds": round(self.load_seconds, 2),
        }

    def prefill(self, tokens: list[int]) -> float:
        self.model.reset()
        begin = time.perf_counter()
        self.model.prefill(tokens).argmax()
        return time.perf_counter() - begin

    def decode(self, context: list[int], steps: int) -> float:
        token = int(self.model.feed(context).argmax())
        begin = time.perf_counter()
        for _ in range(steps):
            token = int(self.model.decode(token).argmax())
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--opt", default="")
    arguments = parser.parse_args()
    serve(MLC(arguments.model, arguments.context, arguments.opt))


if __name__ == "__main__":
    main()
