"""What quantisation and rounding do to a model: its size, speed, predictions and answers.

A GGUF file is read here as it is and in other quantisations, with each rounding of activations, and
in llama.cpp. The reference is transformers in float32 on the file's own weights. Each side reads a
text, of which the perplexity and the Kullback-Leibler divergence from the reference's predictions
are taken (in nats, the mean over all tokens, read as a prompt), and answers questions greedily: how
many answers are right, and how many of the first texts are, token for token, the reference's.

    python -m benchmarks.answers FILE.gguf TEXT_FILE --llama-cpp-python A/bin/python

Needs torch, transformers, accelerate and gguf; llama.cpp is left out where no interpreter with it
is named.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from benchmarks.child import ROOT
from benchmarks.questions import QUESTIONS
from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.chat.evaluation import Reader
from mlc_llm.chat.loading import open_chat
from mlc_llm.cli.bench.measurement import measure
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.convert import convert_source
from mlc_llm.quantization import PLANS, plan

OWN = "own"
"""The types that the weights have in the file."""

ANSWER = 64
"""Most tokens of an answer."""

TEXTS = 20
"""Answers that are compared with the reference's."""

SPEEDS = BenchSettings(prompt_length=128, generate_length=64, repeat=5)
"""What is timed."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What a side makes of the same inputs.

    Args:
        logits: after each token of the text; (tokens, vocabulary).
        answers: the tokens of each answer, without the one that ends it.
        size: bytes of the weights.
        prefill: tokens a second of a prompt.
        decode: tokens a second of an answer.
    """

    logits: Logits
    answers: list[list[int]]
    size: int | None = None
    prefill: float | None = None
    decode: float | None = None


@dataclass(frozen=True)
class Inputs:
    """What each side is given.

    Args:
        text: the tokens of the text.
        prompts: the tokens of the questions in the model's chat template.
        ends: tokens that end an answer.
    """

    text: list[int]
    prompts: list[list[int]]
    ends: list[int]


class Reference:
    """A GGUF file in transformers, in float32."""

    def __init__(self, file: Path) -> None:
        names: dict[str, Any] = {"gguf_file": file.name}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **names)
        load = transformers.AutoModelForCausalLM.from_pretrained
        self._model = load(file.parent, dtype=torch.float32, **names).eval()

    def inputs(self, text: str, tokens: int) -> Inputs:
        """The tokens of the text, cut, and of the questions."""
        ids = self.tokenizer(text)["input_ids"][:tokens]
        prompts = [self._prompt(question.text) for question in QUESTIONS]
        return Inputs(ids, prompts, [self.tokenizer.eos_token_id])

    def _prompt(self, question: str) -> list[int]:
        ids: Any = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
        )
        return list(map(int, ids))

    def outputs(self, inputs: Inputs) -> Outputs:
        """What it predicts and answers."""
        with torch.no_grad():
            logits = self._model(torch.tensor([inputs.text])).logits[0].numpy()
            answers = [self._answer(prompt, inputs.ends) for prompt in inputs.prompts]
        return Outputs(logits, answers)

    def _answer(self, prompt: list[int], ends: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        [made] = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=ANSWER,
            eos_token_id=ends,
            pad_token_id=ends[0],
            repetition_penalty=1.0,
        )
        return [int(token) for token in made[len(prompt) :] if token not in ends]


def ours(model: Path, opt: str, inputs: Inputs) -> Outputs:
    """What a :class:`~mlc_llm.ChatModule` answers, and what its model predicts."""
    config = ChatConfig(opt=opt, context_window_size=max(1024, len(inputs.text)))
    with open_chat(str(model), "cpu", config) as chat:
        logits = np.concatenate(list(Reader(chat, "prompt").read(inputs.text)))
        timed = measure(chat, SPEEDS)
    greedy = GenerationConfig(temperature=0.0, max_gen_len=ANSWER, repetition_penalty=1.0)
    answers = []
    with ChatModule(str(model), "cpu", config) as module:
        for question in QUESTIONS:
            module.reset_chat()
            module.generate(question.text, greedy)
            [result] = module.results
            answers.append([token for token in result.token_ids if token not in inputs.ends])
    speeds = timed.prefill_speed.median, timed.decode_speed.median
    return Outputs(logits, answers, timed.memory.weights, *speeds)


def llama_cpp(python: str, file: Path, inputs: Inputs) -> Outputs:
    """What llama.cpp predicts and answers, in a process of its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        _save(given, inputs.prompts, text=np.array(inputs.text), ends=np.array(inputs.ends))
        command = [python, "-m", "benchmarks.llama_cpp_answers", str(file), str(given), str(made)]
        command += ["--most", str(ANSWER), "--prompt", str(SPEEDS.prompt_length)]
        subprocess.run([*command, "--repeat", str(SPEEDS.repeat)], cwd=ROOT, check=True)
        with np.load(made) as arrays:
            answers = [arrays[f"list{index}"].tolist() for index in range(len(inputs.prompts))]
            speeds = float(arrays["prefill"]), float(arrays["decode"])
            return Outputs(arrays["logits"], answers, file.stat().st_size, *speeds)


def _save(path: Path, lists: list[list[int]], **arrays: npt.NDArray[Any]) -> None:
    numbered = {f"list{index}": np.array(one) for index, one in enumerate(lists)}
    np.savez(path, allow_pickle=False, **numbered, **arrays)


def row(found: Outputs, wanted: Outputs, inputs: Inputs, tokenizer: Any) -> str:
    """A line of the table."""
    p, q = (_log_softmax(one.logits) for one in (wanted, found))
    divergence = float((np.exp(p) * (p - q)).sum(axis=-1).mean())
    surprise = -q[np.arange(len(inputs.text) - 1), inputs.text[1:]].mean()
    same = float((p.argmax(axis=-1) == q.argmax(axis=-1)).mean())
    texts = [tokenizer.decode(answer) for answer in found.answers]
    right = sum(one.is_answered(text) for one, text in zip(QUESTIONS, texts, strict=True))
    pairs = list(zip(found.answers, wanted.answers, strict=True))[:TEXTS]
    equal = sum(ours == theirs for ours, theirs in pairs)
    costs = [found.size and found.size / 1e6, found.prefill, found.decode]
    return " | ".join(
        [
            *("" if cost is None else f"{cost:.0f}" for cost in costs),
            f"{np.exp(surprise):.2f}",
            f"{divergence:.1e}",
            f"{100 * same:.1f} %",
            f"{right} of {len(QUESTIONS)}",
            f"{equal} of {TEXTS}",
        ]
    )


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    logs: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def sides(
    arguments: argparse.Namespace, inputs: Inputs, folder: Path
) -> Iterator[tuple[str, Outputs]]:
    """Each side and what it makes of the inputs; models are made in a folder."""
    for quantization in arguments.quantization:
        model = arguments.file
        if quantization != OWN:
            model = convert_source(model, folder / quantization, quantization=quantization)
        rounded = quantization == OWN or not plan(quantization).linear.is_float
        for rounding in arguments.activations if rounded else arguments.activations[:1]:
            yield f"{quantization}, {rounding}", ours(model, f"activations={rounding}", inputs)
    if arguments.llama_cpp_python:
        yield "llama.cpp", llama_cpp(arguments.llama_cpp_python, arguments.file, inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a GGUF file")
    parser.add_argument("text", type=Path, help="a text file")
    parser.add_argument("--tokens", type=int, default=512, help="of the text that are read")
    names = [OWN, *sorted(PLANS)]
    parser.add_argument("--quantization", nargs="*", choices=names, default=names)
    parser.add_argument("--activations", nargs="*", default=["a16", "mixed"])
    parser.add_argument("--llama-cpp-python", help="an interpreter with llama_cpp")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    reference = Reference(arguments.file)
    inputs = reference.inputs(arguments.text.read_text(encoding="utf-8"), arguments.tokens)
    wanted = reference.outputs(inputs)
    heads = ["", "MB", "prompt, tok/s", "answer, tok/s", "perplexity", "KL divergence"]
    heads += ["same token", "right answers", "equal texts"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    print(f"| float32 | {row(wanted, wanted, inputs, reference.tokenizer)} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, found in sides(arguments, inputs, Path(folder)):
            print(f"| {name} | {row(found, wanted, inputs, reference.tokenizer)} |", flush=True)


if __name__ == "__main__":
    main()
