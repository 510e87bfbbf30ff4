"""A profile of a real model: every kernel is in it, and its rows add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.profiling import PhaseProfile, Profile, kernel_rows, profile
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.cli.bench.work import Arithmetic, WorkModel
from mlc_llm.runtime.profile import KernelCall, TensorShape, record_kernels, time_kernels

from .conftest import CHUNK

TOKENS = 12
PEAKS = Peaks(1e10, {Arithmetic.FLOAT: 1e11})


@pytest.fixture
def found(chat: LoadedChat) -> Profile:
    settings = BenchSettings(prompt_length=TOKENS, generate_length=6, context=5, repeat=2)
    return profile(chat, settings, PEAKS)


def test_the_phases(found: Profile) -> None:
    assert found.peaks is PEAKS
    described = [(phase.name, phase.tokens, phase.steps) for phase in found.phases]
    assert described == [("prefill", TOKENS, 2), ("decode", 1, 6)]


def test_the_rows_add_up(found: Profile) -> None:
    for phase in found.phases:
        kernels = [row.seconds for row in phase.kernels]
        assert sum(kernels) + phase.outside == pytest.approx(phase.seconds)
        assert kernels == sorted(kernels, reverse=True)
        assert all(seconds > 0 for seconds in kernels)


def products(phase: PhaseProfile) -> dict[str, tuple[int, float | None]]:
    """The calls and operations of the matrix products, by the weight's rows and columns."""
    rows = [row for row in phase.kernels if "group_linear" in row.kernel]
    return {row.kernel.partition(" ")[2]: (row.calls, row.operations) for row in rows}


def test_the_matrix_products(found: Profile, model_config: dict[str, Any]) -> None:
    """Every weight of the model is there, as often as there are layers, with all its tokens."""
    config = model_config
    hidden, inner, layers = (
        config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    heads = config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    query = config["num_attention_heads"] * config["head_dim"]
    qkv = f"{heads * config['head_dim']} x {hidden}"
    head = f"{config['vocab_size']} x {hidden}"
    others = [f"{hidden} x {query}", f"{2 * inner} x {hidden}", f"{hidden} x {inner}"]
    for phase in found.phases:
        # A prefill of all tokens but the last, in which the last layer only keeps keys and values,
        # and a decode step.
        before = phase.tokens - 1
        chunks = 1 if before else 0
        expected = {}
        for name in (qkv, head, *others):
            rows, columns = map(int, name.split(" x "))
            more = 0 if name == head else layers - (name != qkv)
            last = 1 if name == head else layers
            calls, tokens = last + chunks * more, last + before * more
            expected[name] = (calls, 2 * rows * columns * tokens)
        assert products(phase) == expected


def test_the_other_kernels(found: Profile, model_config: dict[str, Any]) -> None:
    layers = model_config["num_hidden_layers"]
    per_key = 4 * model_config["head_dim"] * model_config["num_attention_heads"]
    for phase in found.phases:
        rows = {row.kernel: row for row in phase.kernels}
        assert rows["attention_decode"].calls == layers
        keys = 5 + phase.tokens
        assert rows["attention_decode"].operations == per_key * layers * keys
        assert ("attention_prefill" in rows) == (phase.tokens > 1)
        if phase.tokens > 1:
            assert rows["attention_prefill"].calls == layers - 1
            seen = sum(range(6, keys))
            assert rows["attention_prefill"].operations == per_key * (layers - 1) * seen
        # The linear kernels compute the norms and add the residuals.
        assert not any("norm" in kernel or "add" in kernel for kernel in rows)
        for row in phase.kernels:
            assert row.bandwidth == pytest.approx(row.bytes / row.seconds)
            speed = None if row.operations is None else row.operations / row.seconds
            assert row.speed == speed


def test_the_weights_are_read_once_in_a_decode_step(chat: LoadedChat, found: Profile) -> None:
    """All matrices but the table of embeddings, of which a row is read, are in the products."""
    tensors = chat.plan.folder.manifest.tensors
    stored = sum(
        record.nbytes
        for name, record in tensors.items()
        if name.endswith(("q_weight", "q_scale")) and "embed_tokens" not in name
    )
    rows = [row for row in found.phases[1].kernels if "group_linear" in row.kernel]
    # Activations, and rows that are padded to whole blocks, come on top.
    assert stored <= sum(row.bytes for row in rows) < 1.3 * stored


def test_a_pass_gives_the_same_logits_whether_it_is_looked_at_or_not(chat: LoadedChat) -> None:
    ids = list(range(3, 40))

    def logits(_: object) -> tuple[np.ndarray, np.ndarray, int, int]:
        plain = chat.model.feed(ids).copy()
        chat.model.reset()
        with record_kernels(chat.model) as calls:
            recorded = chat.model.feed(ids).copy()
            count = len(calls)
        chat.model.decode(3)
        return plain, recorded, count, len(calls)

    plain, recorded, count, later = chat.engine.call(logits)
    np.testing.assert_array_equal(plain, recorded)
    assert 0 < count == later


def test_timing_kernels_changes_no_result(chat: LoadedChat) -> None:
    """Not the logits, nor what is in the KV cache; also where a prompt has several chunks."""
    ids = [token % chat.model.vocab_size for token in range(5, 5 + 2 * CHUNK + 3)]
    steps: list[list[KernelCall]] = []

    def logits(_: object) -> list[np.ndarray]:
        model = chat.model
        found = [model.feed(ids).copy(), model.decode(7).copy()]
        model.reset()

        def step() -> None:
            model.reset()
            found.append(model.feed(ids).copy())

        steps.extend(time_kernels(model, step, 3))
        return [*found, model.decode(7).copy()]

    prefill, decode, *recorded, after = chat.engine.call(logits)
    assert len(recorded) == 2
    for one in recorded:
        np.testing.assert_array_equal(one, prefill)
    np.testing.assert_array_equal(after, decode)
    assert [{call.context for call in step} for step in steps] == [
        {0, CHUNK, 2 * CHUNK, len(ids) - 1}
    ] * 3
    assert len({len(step) for step in steps}) == 1
    assert all(call.seconds > 0 for step in steps for call in step)


def test_a_row_has_the_median_of_its_steps(chat: LoadedChat) -> None:
    work = WorkModel(chat.model.metadata, chat.model.vocab_size)
    shape = TensorShape((4, 8), "float32")

    def step(*seconds: float) -> list[KernelCall]:
        return [KernelCall(f"add{i}", (shape, shape), 0, 0, time) for i, time in enumerate(seconds)]

    (row,) = kernel_rows([step(1, 2), step(2, 4), step(10, 20)], work)
    assert (row.kernel, row.calls, row.seconds) == ("add", 2, 6)
    assert (row.bytes, row.operations) == (2 * 2 * 4 * 8 * 4, None)
