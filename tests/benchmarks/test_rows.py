"""The comparison's rows: how they are named, and what they ask of a side."""

from __future__ import annotations

import pytest

from benchmarks.contestants import SIDES, WEIGHTS, default_sides
from benchmarks.rows import Row, default_rows
from benchmarks.shapes import SHAPES


def test_a_prefill_counts_its_prompt() -> None:
    row = Row.parse("prefill:512")
    assert (row.label, row.tokens) == ("prefill 512", 512)
    assert row.room > 512


def test_a_decode_counts_its_steps() -> None:
    row = Row.parse("decode:1024", steps=32)
    assert (row.label, row.tokens) == ("decode at 1024", 32)
    # The prompt, the token that it gives, and the steps.
    assert row.room == 1024 + 1 + 32


@pytest.mark.parametrize(
    "text", ["", "prefill", "prefill:", "prefill:0", "prefill:-1", "decode:1k", "embed:16"]
)
def test_what_is_no_row_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="prefill:LENGTH or decode:CONTEXT"):
        Row.parse(text)


def test_each_prefill_has_a_prompt_of_its_own_and_a_decode_keeps_it() -> None:
    prefill, decode = Row.parse("prefill:128"), Row.parse("decode:128", steps=8)
    assert len({prefill.request(attempt)["variant"] for attempt in range(50)}) == 50
    assert decode.request(1) == decode.request(2)
    assert decode.request(1)["variant"] not in {prefill.request(a)["variant"] for a in range(200)}
    assert (decode.request(1)["tokens"], decode.request(1)["steps"]) == (128, 8)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_rows_within_its_context(shape: str, weights: str) -> None:
    rows = [Row.parse(text) for text in default_rows(shape, weights)]
    assert {row.phase for row in rows} == {"prefill", "decode"}
    assert max(row.room for row in rows) <= SHAPES[shape].context


def test_the_sides_fit_the_weights() -> None:
    for weights in WEIGHTS:
        sides = default_sides("tinyllama-1.1b", weights)
        assert set(sides) <= SIDES.keys()
        assert {"mlc_llm", "llama.cpp"} <= set(sides)
    assert "transformers" in default_sides("smollm2-135m", "f32")
    assert not any(side.startswith("openvino") for side in default_sides("smollm2-135m", "f16"))


def test_groups_divide_the_rows_of_every_matrix() -> None:
    """SmolLM2's 576 columns are 18 groups of 32, and no whole number of groups of 128."""
    assert "openvino-genai, g128" in default_sides("tinyllama-1.1b", "q4")
    sides = default_sides("smollm2-135m", "q4")
    assert [side for side in sides if side.startswith("openvino")] == ["openvino-genai, g32"]
