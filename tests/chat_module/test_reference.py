"""``ChatModule`` on trained models, against transformers and SentencePiece."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig

pytestmark = pytest.mark.matrix(pair=["stories260k"])

PROMPTS = ("Once upon a time", "Lily likes cats. One day", "The sun")


class Reference:
    """A checkpoint in transformers, with its SentencePiece tokenizer."""

    def __init__(self, checkpoint: Path, torch: Any, transformers: Any) -> None:
        import sentencepiece

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformers.utils.logging.disable_progress_bar()
            # Threads that wait for each other's tiny kernels take a hundred times as long.
            torch.set_num_threads(1)
            load = transformers.AutoModelForCausalLM.from_pretrained
            self._model = load(checkpoint, dtype=torch.float32)
        self._torch = torch
        self._pieces = sentencepiece.SentencePieceProcessor(str(checkpoint / "tokenizer.model"))

    def prompt_ids(self, prompt: str) -> list[int]:
        return [1, *self._pieces.encode(prompt)]

    def continuation(self, prompt: str, count: int, **options: Any) -> tuple[str, list[int]]:
        """The text and the tokens that transformers writes after the prompt."""
        torch, ids = self._torch, self.prompt_ids(prompt)
        answer = self._model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),
            do_sample=False,
            max_new_tokens=count,
            pad_token_id=0,
            **options,
        )[0].tolist()
        # Like transformers, and unlike SentencePiece, we give special tokens such as <unk> no text.
        unknown = self._pieces.unk_id()
        whole: str = self._pieces.decode([token for token in answer if token != unknown])
        start: str = self._pieces.decode(ids)
        assert whole.startswith(start)
        return whole[len(start) :], answer[len(ids) :]

    def logprobs(self, ids: list[int]) -> np.ndarray:
        """The log-probabilities after each token: shape (tokens, vocabulary)."""
        with self._torch.no_grad():
            logits = self._model(self._torch.tensor([ids])).logits[0]
        array: np.ndarray = self._torch.log_softmax(logits.double(), -1).numpy()
        return array


@pytest.fixture(scope="module", params=["stories260k", "babyllama"])
def pair(
    request: pytest.FixtureRequest,
    make_model: Any,
    make_library: Any,
    torch: Any,
    transformers: Any,
) -> Iterator[tuple[ChatModule, Reference]]:
    """A trained model as a greedy chat without a template, and its reference."""
    checkpoint: Path = request.getfixturevalue(request.param)
    folder = make_model(checkpoint, "q0f32")
    config = ChatConfig(temperature=0.0)
    with ChatModule(str(folder), "cpu", config, str(make_library(folder))) as chat:
        yield chat, Reference(checkpoint, torch, transformers)


def test_raw_text_continues_the_same(pair: tuple[ChatModule, Reference]) -> None:
    """200 greedy tokens as text; SentencePiece itself decodes."""
    chat, reference = pair
    for prompt in PROMPTS:
        text, ids = reference.continuation(prompt, 200)
        assert chat.generate(prompt, GenerationConfig(max_gen_len=200)) == text
        # A stop token ends the answer of transformers too, but is no part of ours.
        assert list(chat.results[0].token_ids) == ids[: len(chat.results[0].token_ids)]
        assert chat.results[0].prompt_tokens == len(reference.prompt_ids(prompt))


def test_the_repetition_penalty_counts_the_prompt_as_well(
    pair: tuple[ChatModule, Reference],
) -> None:
    chat, reference = pair
    for prompt in PROMPTS:
        text, _ = reference.continuation(prompt, 80, repetition_penalty=1.4)
        settings = GenerationConfig(max_gen_len=80, repetition_penalty=1.4)
        assert chat.generate(prompt, settings) == text


def test_logprobs_are_those_of_the_model(pair: tuple[ChatModule, Reference]) -> None:
    """Whatever is sampled from: the settings change the choice, not the log-probabilities."""
    chat, reference = pair
    prompt = "Once upon a time"
    settings = GenerationConfig(
        max_gen_len=30,
        logprobs=5,
        temperature=1.5,
        top_k=40,
        seed=1,
        repetition_penalty=1.2,
        logit_bias={50: 2.0},
    )
    chat.generate(prompt, settings)
    (result,) = chat.results
    assert result.logprobs is not None
    assert [entry.token_id for entry in result.logprobs] == list(result.token_ids)
    prompt_ids = reference.prompt_ids(prompt)
    expected = reference.logprobs([*prompt_ids, *result.token_ids])[len(prompt_ids) - 1 :]
    for entry, row in zip(result.logprobs, expected, strict=False):
        np.testing.assert_allclose(entry.logprob, row[entry.token_id], atol=2e-4)
        likeliest = np.sort(row)[::-1][:5]
        np.testing.assert_allclose([other.logprob for other in entry.top], likeliest, atol=2e-4)
    assert "".join(entry.text for entry in result.logprobs) == result.text


def test_streams_keep_sentencepieces_spaces(
    pair: tuple[ChatModule, Reference], capsys: pytest.CaptureFixture[str]
) -> None:
    from mlc_llm.callback import StreamToStdout

    chat, reference = pair
    settings = GenerationConfig(max_gen_len=60)
    text, _ = reference.continuation("Once upon a time", 60)
    assert "".join(chat.stream("Once upon a time", settings)) == text
    assert chat.generate("Once upon a time", settings, StreamToStdout(3)) == text
    assert capsys.readouterr() == (text + "\n", "")


def test_embeddings_are_the_tables_rows(
    pair: tuple[ChatModule, Reference], request: pytest.FixtureRequest
) -> None:
    chat, reference = pair
    table = reference._model.get_input_embeddings().weight.detach().numpy()
    ids = reference.prompt_ids("Hello world")[1:]
    np.testing.assert_array_equal(chat.embed_text("Hello world"), table[ids])


def test_sampling_follows_the_models_distribution(pair: tuple[ChatModule, Reference]) -> None:
    """First tokens of many seeds against the softmax, cut to a nucleus: a chi-square test."""
    chat, reference = pair
    prompt = "Lily likes"
    draws, temperature, share = 1000, 1.3, 0.9
    tokens = [_first_token(chat, prompt, seed, temperature, share) for seed in range(draws)]
    counts = np.bincount(tokens, minlength=512)
    logprobs = reference.logprobs(reference.prompt_ids(prompt))[-1]
    p = np.exp(logprobs / temperature)
    p /= p.sum()
    ranked = np.argsort(-p, kind="stable")
    p[ranked[int(np.searchsorted(np.cumsum(p[ranked]), share)) + 1 :]] = 0
    expected = p / p.sum() * draws
    assert not counts[: len(p)][expected == 0].any()
    common = expected >= 5
    observed = np.append(counts[: len(p)][common], counts[: len(p)][~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    freedom = max(1, len(wanted) - 1)
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def _first_token(chat: ChatModule, prompt: str, seed: int, temperature: float, share: float) -> int:
    settings = GenerationConfig(
        temperature=temperature, top_p=share, seed=seed, max_gen_len=1, stop=[]
    )
    chat.generate(prompt, settings)
    ids = chat.results[0].token_ids
    return ids[0] if ids else 2
