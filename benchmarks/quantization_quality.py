"""What each quantisation does to a model's predictions: against the float model in transformers.

A text is read token by token, so that each prediction is one of the decode phase. Of these: the
perplexity of the text, the Kullback-Leibler divergence from the float model's predictions (in nats,
the mean over all tokens), and how often the likeliest next token is the same.

    python -m benchmarks.quantization_quality HF_FOLDER TEXT_FILE --tokens 700

Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import transformers

from mlc_llm.device.cpu import CPU
from mlc_llm.quantization import PLANS
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing.workbench import Workbench, context_window
from mlc_llm.weights.folder import ModelFolder

Logs = npt.NDArray[np.float64]
"""Logarithms of probabilities: (tokens, vocabulary)."""


def of_floats(source: Path, ids: list[int]) -> Logs:
    """The predictions of the float model."""
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    predicted: Logs = logits.log_softmax(dim=-1).numpy()
    return predicted


def of_quantized(bench: Workbench, source: Path, quantization: str, ids: list[int]) -> Logs:
    """The predictions of the model on the CPU, with its weights in a quantisation."""
    data = transformers.AutoConfig.from_pretrained(source)
    architecture = default_registry().architecture(data.model_type)
    path = bench.convert(source, quantization, architecture)
    library = bench.library(path, architecture, CPU)
    with ModelFolder.open(path) as folder:
        window = context_window(folder, architecture, context_window_size=len(ids) + 1)
        model = LoadedModel.load(library, folder, CPU.open(0), window)
    logits = [np.array(model.feed(ids[:1])), *(np.array(model.decode(i)) for i in ids[1:])]
    return torch.tensor(np.array(logits)).double().log_softmax(dim=-1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a model in Hugging Face's layout")
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--tokens", type=int, default=700)
    parser.add_argument("--quantization", nargs="*", choices=sorted(PLANS), default=sorted(PLANS))
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.source)
    ids = tokenizer(arguments.text.read_text(encoding="utf-8"))["input_ids"][: arguments.tokens]
    floats = of_floats(arguments.source, ids)
    print(f"{arguments.source.name}, {len(ids)} tokens: perplexity {_perplexity(floats, ids):.2f}")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.quantization:
            found = of_quantized(Workbench(Path(folder)), arguments.source, name, ids)
            wanted = floats[:, : found.shape[1]]
            divergence = (np.exp(wanted) * (wanted - found)).sum(axis=-1).mean()
            same = (wanted.argmax(axis=-1) == found.argmax(axis=-1)).mean()
            print(
                f"{name:10} perplexity {_perplexity(found, ids):7.2f}  KL {divergence:.4f}  "
                f"same next token {100 * same:.1f} %",
                flush=True,
            )


def _perplexity(predicted: Logs, ids: list[int]) -> float:
    return float(np.exp(-predicted[np.arange(len(ids) - 1), ids[1:]].mean()))


if __name__ == "__main__":
    main()
