"""The comparison's arithmetic: medians, the best peer, ratios, and the table made of them."""

from __future__ import annotations

import pytest

from benchmarks.results import (
    Samples,
    best_of,
    best_peer,
    contention,
    implementations,
    markdown,
    ratio,
    table,
)


@pytest.fixture
def row() -> dict[str, Samples]:
    return {
        "mlc_llm": Samples([30.0, 40.0, 50.0]),
        "mlc_llm a16": Samples([35.0, 36.0, 34.0]),
        "llama.cpp": Samples([20.0, 21.0, 10.0]),
        "openvino-genai, g32": Samples([16.0, 16.0, 99.0]),
        "openvino-genai, g128": Samples([32.0, 31.0, 33.0]),
    }


def test_a_median_and_a_range() -> None:
    samples = Samples([30.0, 100.0, 10.25])
    assert samples.median == 30.0
    assert samples.spread == "10.2-100.0"


def test_the_better_variant_is_the_one_of_the_higher_median(row: dict[str, Samples]) -> None:
    assert best_of(row, "openvino-genai") == "openvino-genai, g128"
    assert best_of(row, "llama.cpp") == "llama.cpp"
    assert best_of(row, "transformers") is None


def test_the_best_peer_is_never_ours(row: dict[str, Samples]) -> None:
    assert best_peer(row) == "openvino-genai, g128"
    assert best_peer({"mlc_llm": row["mlc_llm"]}) is None


def test_ratios_are_those_of_medians(row: dict[str, Samples]) -> None:
    assert ratio(row, "llama.cpp") == pytest.approx(40 / 20)
    assert ratio(row, best_peer(row)) == pytest.approx(40 / 32)
    assert ratio(row, None) is None
    assert ratio({"llama.cpp": row["llama.cpp"]}, "llama.cpp") is None


def test_the_table_names_the_variant_and_the_best_peer(row: dict[str, Samples]) -> None:
    results = {"decode at 16": row}
    assert implementations(results) == ["mlc_llm", "mlc_llm a16", "llama.cpp", "openvino-genai"]
    header, line = table(results)
    assert len(header) == len(line)
    cells = dict(zip(header, line, strict=True))
    assert cells["tok/s"] == "decode at 16"
    assert cells["mlc_llm"] == "40.0"
    assert cells["openvino-genai"] == "32.0 (g128)"
    assert cells["/ llama.cpp"] == "2.00"
    assert (cells["/ best"], cells["best"]) == ("1.25", "openvino-genai, g128")


def test_a_side_that_was_not_measured_leaves_its_cells_empty() -> None:
    results = {
        "decode at 16": {"mlc_llm": Samples([2.0]), "llama.cpp": Samples([1.0])},
        "prefill 128": {"mlc_llm": Samples([3.0])},
    }
    _, first, second = table(results)
    assert first == [
        "decode at 16",
        "2.0",
        "2.0-2.0",
        "1.0",
        "1.0-1.0",
        "2.00",
        "2.00",
        "llama.cpp",
    ]
    assert second == ["prefill 128", "3.0", "3.0-3.0", "-", "-", "-", "-", "-"]


def test_markdown_has_a_rule_below_its_header() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_contention_is_said_where_it_is_known() -> None:
    busy = {"row": {"mlc_llm": Samples([1.0], [0.02]), "llama.cpp": Samples([1.0], [0.5])}}
    assert contention(busy) == (
        "Other processes took 26% of the CPU meanwhile (median; at most 50%)."
    )
    assert contention({"row": {"mlc_llm": Samples([1.0])}}) is None
