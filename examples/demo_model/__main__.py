"""``python -m examples.demo_model``: make the demo model, from nothing to a model folder."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import islice
from pathlib import Path

import torch

from examples.demo_model.corpus import samples
from examples.demo_model.evaluate import report
from examples.demo_model.held_out import excluded
from examples.demo_model.train import Recipe, Training, save
from examples.demo_model.vocabulary import train_tokenizer
from mlc_llm import convert_weight, gen_config

QUANTIZATION = "q4f16_1"
TOKENIZER_SAMPLES = 20_000
ENOUGH = 0.8


def main(arguments: list[str] | None = None) -> int:
    """Train, convert and evaluate; returns 1 when the evaluation is not passed."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    work: Path = options.work
    recipe = Recipe(seed=options.seed, steps=options.steps)
    if not (work / "tokenizer.json").is_file():
        train_tokenizer(islice(samples(recipe.seed, excluded()), TOKENIZER_SAMPLES), work)
    training = Training(recipe, work, excluded(), compiled=options.compile)
    training.run()
    save(training.model, work)
    output = options.output or work / "model"
    convert_weight(work, QUANTIZATION, output)
    gen_config(work, QUANTIZATION, "llama-2", output)
    print(f"The model is in {output}.", file=sys.stderr)
    return 0 if report(output, show_failures=options.failures) >= ENOUGH else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo_model", description=__doc__)
    add = parser.add_argument
    add("--work", type=Path, default=Path("build/demo"), help="checkpoints are kept here")
    add("--output", type=Path, help="the model folder; by default WORK/model")
    add("--steps", type=int, default=Recipe.steps, help="batches to learn")
    add("--seed", type=int, default=Recipe.seed, help="of the weights and of the corpus")
    add("--threads", type=int, default=os.cpu_count(), help="which the result depends on, slightly")
    add("--failures", action="store_true", help="print the answers that are wrong")
    add("--no-compile", dest="compile", action="store_false", help="do without torch.compile")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
