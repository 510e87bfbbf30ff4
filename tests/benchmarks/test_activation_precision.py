"""What the measurement of rounded activations computes, and that its three phases agree."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import numpy as np
import pytest

from benchmarks.activation_precision import PHASES, equal_tokens, score, tables
from benchmarks.precision_texts import Passage, dialogues, stories
from benchmarks.probed_model import ProbedModel, dequantized_folder
from mlc_llm.quantization import folder_plan
from mlc_llm.quantization.packing import dequantize
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import DEMO, resolve_model

COUNT, LENGTH = 3, 48


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ProbedModel:
    """The demo with its weights in float32."""
    folder = tmp_path_factory.mktemp("plain")
    path = dequantized_folder(resolve_model(DEMO), folder / "model")
    return ProbedModel(path, folder / "probed-plain.so")


def test_scores_follow_their_definitions() -> None:
    """Against the sums written out, number by number."""
    random = np.random.default_rng(0)
    texts = [Passage((1,), (3, 0, 4)), Passage((1, 2), (2, 2))]
    expected = [random.normal(size=(len(text.rest), 5)).astype(np.float32) for text in texts]
    found = [rows + random.normal(0, 0.1, rows.shape).astype(np.float32) for rows in expected]
    result = score(found, expected, texts)
    ours, theirs = np.concatenate(found).tolist(), np.concatenate(expected).tolist()
    rest = [token for text in texts for token in text.rest]
    q, p = [_softmax(row) for row in ours], [_softmax(row) for row in theirs]
    surprise = [-log(row[token]) for row, token in zip(q, rest, strict=True)]
    divergences = [_divergence(*rows) for rows in zip(p, q, strict=True)]
    pairs = [pair for rows in zip(ours, theirs, strict=True) for pair in zip(*rows, strict=True)]
    assert result.tokens == 5
    assert result.perplexity == pytest.approx(exp(sum(surprise) / 5))
    assert result.divergence == pytest.approx(sum(divergences) / 5)
    assert result.worst_divergence == pytest.approx(max(divergences))
    assert result.error == pytest.approx((sum((a - b) ** 2 for a, b in pairs) / 25) ** 0.5)
    assert result.worst_error == pytest.approx(max(abs(a - b) for a, b in pairs))
    same = [a.index(max(a)) == b.index(max(b)) for a, b in zip(ours, theirs, strict=True)]
    assert result.same == sum(same) / 5


def _softmax(row: list[float]) -> list[float]:
    return [exp(value) / sum(map(exp, row)) for value in row]


def _divergence(p: list[float], q: list[float]) -> float:
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def test_the_reference_is_not_off_itself() -> None:
    text = Passage((1,), (0, 1))
    logits = np.array([[2.0, -1.0], [0.5, 3.0]], np.float32)
    result = score([logits], [logits], [text])
    assert (result.divergence, result.error, result.worst_error, result.same) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("found", "expected", "count"),
    [([1, 2, 3], [1, 2, 3], 3), ([1, 2, 4], [1, 2, 3], 2), ([0], [1], 0), ([], [], 0)],
)
def test_equal_tokens_are_counted_from_the_beginning(
    found: list[int], expected: list[int], count: int
) -> None:
    assert equal_tokens(found, expected) == count


def test_every_phase_predicts_the_same(plain: ProbedModel) -> None:
    """In float32 nothing is rounded, so that the phases differ by the order of sums only."""
    texts = stories(plain, COUNT, LENGTH)
    for text in texts:
        assert (len(text.prompt), len(text.ids)) == (LENGTH // 4, LENGTH)
        prefill, decode, chat = (read(plain, text) for read in PHASES.values())
        assert prefill.shape == (len(text.rest), plain.vocab_size)
        np.testing.assert_allclose(decode, prefill, rtol=0, atol=2e-4)
        np.testing.assert_allclose(chat, prefill, rtol=0, atol=2e-4)


def test_greedy_tokens_are_the_likeliest(plain: ProbedModel) -> None:
    prompt = (1, 40, 41)
    written = tuple(plain.greedy(prompt, 6))
    plain.reset()
    predicted = plain.every(prompt + written)[len(prompt) - 1 : -1].argmax(axis=1)
    assert written == tuple(predicted)


def test_the_plain_folder_has_the_weights_as_they_are_stored(tmp_path: Path) -> None:
    demo = resolve_model(DEMO)
    with (
        ModelFolder.open(demo) as stored,
        ModelFolder.open(dequantized_folder(demo, tmp_path / "plain")) as plain,
    ):
        name = "model.layers.0.self_attn.qkv_proj"
        codes, scales = stored.read(f"{name}.q_weight"), stored.read(f"{name}.q_scale")
        values = plain.read(f"{name}.weight")
        scheme = folder_plan(stored.config).linear
        expected = dequantize([codes, scales], values.shape[1], scheme)
        np.testing.assert_array_equal(values, expected.astype(np.float32))
        assert plain.config.quantization == "q0f32"


def test_dialogues_are_cut_where_the_first_answer_begins() -> None:
    passages = dialogues(resolve_model(DEMO), 4, 256)
    assert len(passages) == 4
    assert all(text.prompt and text.rest and len(text.ids) <= 256 for text in passages)
    assert passages == dialogues(resolve_model(DEMO), 4, 256)


def test_the_report_shows_each_phase() -> None:
    logits = np.array([[2.0, -1.0]], np.float32)
    one = vars(score([logits], [logits], [Passage((1,), (0,))]))
    measured = {
        "model": "m",
        "activations": "a8",
        "phases": dict.fromkeys(PHASES, one),
        "reference_perplexity": one["perplexity"],
        "prompts": 7,
        "greedy_length": 16,
        "equal_texts": 0.5,
        "equal_tokens": 9.25,
    }
    lines = list(tables([measured]))
    assert [line.split(" | ")[1] for line in lines[2:5]] == list(PHASES)
    assert all("(+0.000%)" in line for line in lines[2:5])
    assert lines[-1] == "| m | a8 | 7 | 50.0% | 9.2 of 16 |"
