"""The text of the statistics, to the letter."""

from __future__ import annotations

import pytest

from mlc_llm.runtime.statistics import Metrics, PhaseMetrics


def test_summary_and_details() -> None:
    metrics = Metrics(PhaseMetrics(6955, 2.0), PhaseMetrics(768, 5.0))
    assert metrics.summary() == "prefill: 3477.5 tok/s, decode: 153.6 tok/s"
    assert metrics.details() == (
        "----------- prefill -----------\n"
        "throughput: 3477.5 tok/s\n"
        "total tokens: 6955 tok\n"
        "total time: 2.000 s\n"
        "------------ decode ------------\n"
        "throughput: 153.6 tok/s\n"
        "total tokens: 768 tok\n"
        "total time: 5.000 s"
    )


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics(PhaseMetrics(1, 1.0), time_to_first_token=0.5)
    before = metrics.snapshot()
    assert before == metrics
    metrics.prefill.tokens += 1
    metrics.decode.seconds += 1
    assert before == Metrics(PhaseMetrics(1, 1.0), time_to_first_token=0.5)


def test_nothing_measured() -> None:
    assert Metrics().summary() == "prefill: 0.0 tok/s, decode: 0.0 tok/s"


def test_time_counts_when_the_block_fails() -> None:
    phase = PhaseMetrics()
    with phase.measure() as same:
        same.tokens += 3
    with pytest.raises(ZeroDivisionError), phase.measure():
        raise ZeroDivisionError
    assert phase.tokens == 3
    assert phase.seconds > 0
