"""When a pass is captured, and what it then computes; the CPU stands in for a device that can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from mlc_llm.runtime.captured_pass import CapturedPass, no_capture
from mlc_llm.runtime.compiled_library import CompiledLibrary


class Doubling:
    """A function of one tensor, with a count of its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        return tvm.runtime.tensor(2 * x.numpy())


class Recorder:
    """Captures by remembering the work, which a launch does again."""

    def __init__(self) -> None:
        self.captures = self.launches = 0

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        work()

        def launch() -> None:
            self.launches += 1
            work()

        return launch


@pytest.fixture(scope="module")
def library(toy_path: Path) -> CompiledLibrary:
    return CompiledLibrary(toy_path, tvm.cpu())


def tensor(value: float) -> Any:
    return tvm.runtime.tensor(np.array([value], "float32"))


def test_the_second_call_with_the_same_tensors_is_captured(library: CompiledLibrary) -> None:
    function, recorder, x = Doubling(), Recorder(), tensor(1)
    computed = CapturedPass(function, library, recorder)
    results, launches = [], []
    for value in (1, 2, 3, 4):
        x.copyfrom(np.array([value], "float32"))
        results.append(computed(x).numpy()[0])
        launches.append(recorder.launches)
    assert results == [2, 4, 6, 8]
    assert launches == [0, 1, 2, 3]
    assert recorder.captures == 1


def test_other_tensors_are_captured_again(library: CompiledLibrary) -> None:
    recorder = Recorder()
    computed = CapturedPass(Doubling(), library, recorder)
    tensors = [tensor(1), tensor(1), tensor(5), tensor(5), tensor(7)]
    first, second = tensors[0], tensors[2]
    results = [computed(x).numpy()[0] for x in (first, first, second, second, second, first)]
    assert results == [2, 2, 10, 10, 10, 2]
    assert (recorder.captures, recorder.launches) == (2, 3)


def test_calls_that_are_shown_to_an_instrument_are_not_captured(library: CompiledLibrary) -> None:
    recorder, x = Recorder(), tensor(1)
    computed = CapturedPass(Doubling(), library, recorder)
    with library.instrumented(lambda *_: 0):
        assert [computed(x).numpy()[0] for _ in range(3)] == [2, 2, 2]
    assert recorder.captures == 0


def test_a_device_that_cannot_is_asked_once(library: CompiledLibrary) -> None:
    asked = []
    function, x = Doubling(), tensor(3)
    computed = CapturedPass(function, library, lambda work: asked.append(no_capture(work)))
    assert [computed(x).numpy()[0] for _ in range(4)] == [6, 6, 6, 6]
    assert len(asked) == 1


def test_a_capture_that_fails_is_a_warning(
    library: CompiledLibrary, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_work: Callable[[], None]) -> None:
        raise RuntimeError("the stream is busy")

    computed, x = CapturedPass(Doubling(), library, fail), tensor(3)
    assert [computed(x).numpy()[0] for _ in range(4)] == [6, 6, 6, 6]
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "the stream is busy" in caplog.text
