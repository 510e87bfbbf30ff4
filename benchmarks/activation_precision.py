"""What rounding activations costs: 4-bit models against float32 on the same weights.

The compilation option ``activations`` says how 4-bit matmuls round their inputs. Every value of it
is measured on trained models, and compared with the same weights, dequantised, in ``q0f32``:
float32 throughout, keys and values included. What ``q4f16_1`` loses besides, by keys and values in
float16, is what it is further off than ``q4f32_1``.

Three phases, because other kernels run in each: ``prefill`` takes a text in one pass, ``decode``
takes it token by token, ``chat`` takes its prompt in one pass and the rest token by token.

    python -m benchmarks.activation_precision path/to/checkpoint ... [--json]

The demo is always measured, on dialogues of its corpus with a seed that its training did not use.
Each checkpoint, a model in Hugging Face's layout that is converted here, is measured on texts that
it writes itself at temperature 1, with float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.precision_texts import Passage, dialogues, stories
from benchmarks.probed_model import Logits, ProbedModel, dequantized_folder
from mlc_llm.device.cpu import CPU
from mlc_llm.testing.model_folder import convert_checkpoint
from mlc_llm.weights.locate import DEMO, resolve_model

QUANTIZATIONS = ("q4f16_1", "q4f32_1")
TEXT_LENGTH = 256
GREEDY_LENGTH = 128

Reader = Callable[[ProbedModel, Passage], Logits]


@dataclass(frozen=True)
class Score:
    """How the predictions of a text differ from the reference's.

    Args:
        tokens: how many were predicted.
        perplexity: of the text.
        divergence: mean Kullback-Leibler divergence from the reference's distribution, in nats.
        worst_divergence: the largest.
        error: root mean square of the difference of logits.
        worst_error: the largest difference.
        same: share of positions where the likeliest token is the reference's.
    """

    tokens: int
    perplexity: float
    divergence: float
    worst_divergence: float
    error: float
    worst_error: float
    same: float


def read_prefill(model: ProbedModel, passage: Passage) -> Logits:
    """The logits that predict the rest of a passage, all from one pass: (tokens, vocab_size)."""
    model.reset()
    return model.every(passage.ids[:-1], len(passage.prompt) - 1)


def read_decode(model: ProbedModel, passage: Passage) -> Logits:
    """The same, token by token."""
    model.reset()
    rows = [model.decode(token) for token in passage.ids[:-1]]
    return np.stack(rows[len(passage.prompt) - 1 :])


def read_chat(model: ProbedModel, passage: Passage) -> Logits:
    """The same, the prompt in one pass and the rest token by token."""
    model.reset()
    rows = [model.prefill(passage.prompt)]
    rows += [model.decode(token) for token in passage.rest[:-1]]
    return np.stack(rows)


PHASES: dict[str, Reader] = {
    "prefill": read_prefill,
    "decode": read_decode,
    "chat": read_chat,
}


def log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Of each row, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def score(found: Sequence[Logits], expected: Sequence[Logits], texts: Sequence[Passage]) -> Score:
    """Compare the logits of all passages with the reference's.

    Args:
        found: for each passage, logits (tokens, vocab_size).
        expected: the reference's.
        texts: the passages.
    """
    likelihoods, divergences, squares, errors, same = [], [], [], [], []
    for ours, theirs, passage in zip(found, expected, texts, strict=True):
        p, q = log_softmax(theirs), log_softmax(ours)
        likelihoods.append(q[np.arange(len(q)), passage.rest])
        divergences.append((np.exp(p) * (p - q)).sum(axis=1))
        squares.append(np.square(ours - theirs).mean(axis=1))
        errors.append(np.abs(ours - theirs).max(axis=1))
        same.append(ours.argmax(axis=1) == theirs.argmax(axis=1))
    divergence, likelihood = np.concatenate(divergences), np.concatenate(likelihoods)
    return Score(
        tokens=len(likelihood),
        perplexity=float(np.exp(-likelihood.mean())),
        divergence=float(divergence.mean()),
        worst_divergence=float(divergence.max()),
        error=float(np.sqrt(np.concatenate(squares).mean())),
        worst_error=float(np.concatenate(errors).max()),
        same=float(np.concatenate(same).mean()),
    )


def equal_tokens(found: Sequence[int], expected: Sequence[int]) -> int:
    """How many tokens at the beginning are equal."""
    pairs = zip(found, expected, strict=True)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(expected))


@dataclass(frozen=True)
class Subject:
    """A quantised model folder and its texts.

    Args:
        name: for the report.
        path: the folder.
        reference: the same weights in ``q0f32``.
        texts: what it is measured on.
    """

    name: str
    path: Path
    reference: ProbedModel
    texts: list[Passage]


def subjects(checkpoints: Sequence[Path], count: int, scratch: Path) -> Iterator[Subject]:
    """The demo, then every checkpoint in every quantisation."""
    demo = resolve_model(DEMO)
    plain = dequantized_folder(demo, scratch / "demo-q0f32")
    reference = ProbedModel(plain, scratch / "demo-q0f32.so")
    yield Subject("demo q4f16_1", demo, reference, dialogues(demo, 4 * count, TEXT_LENGTH))
    for checkpoint in checkpoints:
        for quantization in QUANTIZATIONS:
            name = f"{checkpoint.name}-{quantization}"
            path = convert_checkpoint(checkpoint, scratch / name, quantization)
            plain = dequantized_folder(path, scratch / f"{name}-q0f32")
            reference = ProbedModel(plain, scratch / f"{name}-q0f32.so")
            texts = stories(reference, count, min(TEXT_LENGTH, reference.context))
            yield Subject(f"{checkpoint.name} {quantization}", path, reference, texts)


def measure(subject: Subject, scratch: Path) -> Iterator[dict[str, Any]]:
    """One row for each option; see `main` for its fields."""
    reference, texts = subject.reference, subject.texts
    expected = [read_prefill(reference, passage) for passage in texts]
    prompts = [passage.prompt for passage in texts]
    room = min(GREEDY_LENGTH, reference.context - max(map(len, prompts)) - 1)
    written = [list(reference.greedy(prompt, room)) for prompt in prompts]
    for option in CPU.options["activations"]:
        library = scratch / f"{subject.name}-{option}.so".replace(" ", "-")
        model = ProbedModel(subject.path, library, f"activations={option}")
        equal = [
            equal_tokens(list(model.greedy(prompt, room)), ours)
            for prompt, ours in zip(prompts, written, strict=True)
        ]
        yield {
            "model": subject.name,
            "activations": option,
            "phases": {
                name: asdict(score([read(model, text) for text in texts], expected, texts))
                for name, read in PHASES.items()
            },
            "reference_perplexity": score(expected, expected, texts).perplexity,
            "prompts": len(prompts),
            "greedy_length": room,
            "equal_texts": float(np.mean([count == room for count in equal])),
            "equal_tokens": float(np.mean(equal)),
        }


def row(cells: Sequence[object]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def score_rows(measured: Mapping[str, Any]) -> Iterator[str]:
    """The rows of one option: one for each phase."""
    for phase, s in measured["phases"].items():
        change = s["perplexity"] / measured["reference_perplexity"] - 1
        cells = [measured["model"], phase, measured["activations"]]
        cells += [f"{s['perplexity']:.4f} ({change:+.3%})"]
        cells += [f"{s['divergence']:.1e}", f"{s['worst_divergence']:.1e}"]
        cells += [f"{s['error']:.1e}", f"{s['worst_error']:.1e}", f"{s['same']:.2%}"]
        yield row(cells)


def tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The report as Markdown."""
    head = ["model", "phase", "activations", "perplexity", "mean KL", "largest KL"]
    head += ["logits off by (rms)", "at most", "same next token"]
    yield from (row(head), row(["---"] * len(head)))
    for measured in rows:
        yield from score_rows(measured)
    yield ""
    head = ["model", "activations", "prompts", "greedy texts equal", "tokens until they differ"]
    yield from (row(head), row(["---"] * len(head)))
    for measured in rows:
        until = f"{measured['equal_tokens']:.1f} of {measured['greedy_length']}"
        cells = [measured["model"], measured["activations"], measured["prompts"]]
        yield row([*cells, f"{measured['equal_texts']:.1%}", until])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="*")
    parser.add_argument("--texts", type=int, default=48, help="of each checkpoint")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for subject in subjects(arguments.checkpoints, arguments.texts, scratch):
            for measured in measure(subject, scratch):
                for line in score_rows(measured):
                    print(line, file=sys.stderr)
                rows.append(measured)
    print(json.dumps(rows, indent=1) if arguments.json else "\n".join(tables(rows)))


if __name__ == "__main__":
    main()
