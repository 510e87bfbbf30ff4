"""The quantisation schemes by name."""

import subprocess
import sys

import pytest

from mlc_llm.errors import QuantizationError
from mlc_llm.quantization import QUANTIZATIONS, scheme


def test_names():
    assert set(QUANTIZATIONS) == {"q0f16", "q0f32", "q4f16_1", "q4f32_1"}
    assert all(QUANTIZATIONS[name].name == name == scheme(name).name for name in QUANTIZATIONS)


@pytest.mark.parametrize("name", ["q4f16_1", "q4f32_1"])
def test_four_bit_groups(name):
    chosen = scheme(name)
    assert (chosen.kind, chosen.bits, chosen.group_size) == ("group", 4, 32)
    assert (chosen.codes_per_word, chosen.zero_code) == (8, 7)
    assert chosen.model_dtype == {"q4f16_1": "float16", "q4f32_1": "float32"}[name]


@pytest.mark.parametrize(
    ("columns", "groups", "words"), [(1, 1, 4), (31, 1, 4), (32, 1, 4), (33, 2, 8), (172, 6, 24)]
)
def test_ragged_rows_are_rounded_up(columns, groups, words):
    chosen = scheme("q4f16_1")
    assert (chosen.groups(columns), chosen.words(columns)) == (groups, words)


@pytest.mark.parametrize(
    ("name", "near"), [("q4f16", "q4f16_1"), ("Q4F16_1", "q4f16_1"), ("q0f3", "q0f32")]
)
def test_unknown_names_the_nearest(name, near):
    with pytest.raises(QuantizationError, match=rf"(?s){name!r}.*Did you mean.*{near!r}.*q0f16"):
        scheme(name)


def test_does_not_import_tvm():
    code = (
        "import sys, mlc_llm.quantization, mlc_llm.quantization.packing; "
        "sys.exit(bool({'tvm', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
