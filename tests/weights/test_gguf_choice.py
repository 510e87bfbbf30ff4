"""Which of several GGUF files is taken."""

from __future__ import annotations

import pytest

from mlc_llm.weights.gguf_choice import PREFERRED, choose, gguf_models
from mlc_llm.weights.sizes import size_text

GB = 10**9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("gemma-3-1b-it-BF16.gguf", "BF16"),
        ("model.fp16.gguf", "F16"),
        ("model-f32.gguf", "F32"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("a/Q8_0/model-IQ4_XS-00001-of-00002.gguf", "IQ4_XS"),
        ("Qwen3-8B.gguf", ""),
        ("ggml-model.gguf", ""),
    ],
)
def test_the_type_in_a_name(name, expected):
    (model,) = gguf_models([(name, 1)])
    assert model.type == expected


def test_parts_are_one_model():
    parts = [f"big/m-Q8_0-0000{i}-of-00003.gguf" for i in (3, 1, 2)]
    files = [(name, 10) for name in parts] + [("m-F16-00002-of-00002.gguf", 5), ("m.gguf", 1)]
    whole, half, single = sorted(gguf_models(files), key=lambda model: -model.nbytes)
    assert (whole.parts, whole.nbytes, whole.complete) == (tuple(sorted(parts)), 30, True)
    assert (half.nbytes, half.complete) == (5, False)
    assert single.parts == ("m.gguf",)


def test_what_is_no_model_is_left_out():
    names = ["mmproj-model-f16.gguf", "model.imatrix.gguf", "imatrix.gguf", "README.md", "gguf"]
    assert gguf_models([(name, 1) for name in names]) == []


def models(**sizes):
    return gguf_models([(f"m-{name}.gguf", size) for name, size in sizes.items()])


@pytest.mark.parametrize(
    ("sizes", "memory", "taken"),
    [
        ({"Q2_K": 3, "Q4_K_M": 5, "Q8_0": 8, "F16": 15}, 64, "Q4_K_M"),
        ({"Q2_K": 3, "Q4_K_M": 5, "Q8_0": 8, "F16": 15}, None, "Q4_K_M"),
        ({"Q4_K_S": 4, "Q4_K_M": 5, "Q8_0": 8}, 6, "Q4_K_S"),
        ({"Q8_0": 8, "F16": 15}, 64, "Q8_0"),
        ({"Q8_0": 8, "Q5_K_M": 6}, 64, "Q5_K_M"),
        ({"IQ4_XS": 4, "Q8_0": 8}, 64, "Q8_0"),
        ({"Q4_K_M": 50, "Q8_0": 80}, 8, "Q4_K_M"),  # the smallest, which is then refused
        ({"Q2_K": 3, "Q3_K_M": 4}, 64, "Q2_K"),
    ],
)
def test_the_rule(sizes, memory, taken):
    chosen = choose(
        models(**{name: size * GB for name, size in sizes.items()}), memory and memory * GB
    )
    assert chosen.type == taken


def test_three_quarters_of_the_memory_may_be_taken():
    two = models(Q4_K_M=750, Q4_0=700)
    assert choose(two, 1000).type == "Q4_K_M"
    assert choose(two, 999).type == "Q4_0"


def test_every_preferred_type_is_known_in_a_name():
    for name in PREFERRED:
        (model,) = models(**{name: 1})
        assert model.type == name


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (92_871_040, "93 MB"),
        (999_600_000, "1.0 GB"),
        (4_920_000_000, "4.9 GB"),
        (2.5e12, "2.5 TB"),
    ],
)
def test_sizes_are_shown_in_decimal_units(nbytes, text):
    assert size_text(nbytes) == text
