"""The machine's peaks: their kernels compute what they say, and are compiled once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.peaks import Peaks, compiled_kernels, measure_peaks
from mlc_llm.cli.bench.work import Arithmetic
from mlc_llm.device.cpu import host_features
from mlc_llm.device.cpu.features import host_target
from mlc_llm.device.cpu.peaks import CHAINS, WIDTH, run_kernels
from mlc_llm.library.cache import LibraryCache
from mlc_llm.testing import FakeDevice, raises

DOT_FEATURES = {"avx512vnni", "avxvnni", "dotprod"}


@pytest.fixture(scope="module")
def peaks_library() -> Path:
    """The library of the kernels, in the cache of the run, where the command finds it, too."""
    return compiled_kernels(host_target())


@pytest.fixture(scope="module")
def kernels(peaks_library: Path) -> Any:
    """The compiled kernels."""
    from tvm.runtime import load_module

    return load_module(str(peaks_library))


def test_the_sum(kernels: Any) -> None:
    from tvm.runtime import empty

    numbers = empty((3 * CHAINS * WIDTH * 4,), "float32")
    sums = empty((3, WIDTH), "float32")
    kernels["fill"](numbers, sums)
    np.testing.assert_array_equal(numbers.numpy(), 1)
    sums.copyfrom(np.zeros((3, WIDTH), "float32"))
    kernels["read_sum"](numbers, sums)
    np.testing.assert_array_equal(sums.numpy().sum(axis=1), CHAINS * WIDTH * 4)


def test_the_multiply_adds(kernels: Any) -> None:
    from tvm.runtime import tensor

    out = tensor(np.full((2, WIDTH), 0.5, "float32"))
    kernels["multiply_add"](100, out)
    np.testing.assert_allclose(out.numpy(), 0.5, rtol=1e-6)


@pytest.mark.skipif(not DOT_FEATURES & host_features(), reason="this CPU has no dot products")
def test_the_integer_dot_products(kernels: Any) -> None:
    from tvm.runtime import tensor

    factors = np.full((2, WIDTH), 0x03030303, "int32")
    out = tensor(factors)
    kernels["multiply_add_int8"](5, out)
    lanes = int((out.numpy()[0] != factors[0]).sum())
    assert lanes in (4, 8, 16)
    # A sum is added to as often as vectors of its lanes make up the width.
    expected = CHAINS * 5 * (WIDTH // lanes) * 4 * 9
    np.testing.assert_array_equal(out.numpy()[:, :lanes], expected)


def test_the_figures(peaks_library: Path, chat: LoadedChat) -> None:
    found = chat.engine.call(lambda stop: run_kernels(peaks_library, 1, 10**7))
    assert found.read > 0
    assert found.float32 > 0
    assert (found.int8 is not None) == bool(DOT_FEATURES & host_features())


def test_they_are_compiled_once(peaks_library: Path) -> None:
    stamp = peaks_library.stat().st_mtime_ns
    assert compiled_kernels(host_target()) == peaks_library
    assert peaks_library.stat().st_mtime_ns == stamp


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    with raises("compilation-failed", "C compiler"):
        compiled_kernels(host_target(), LibraryCache(tmp_path / "cache"))


def test_of_other_devices_they_are_not_known(chat: LoadedChat) -> None:
    choice = dataclasses.replace(chat.plan.device, device=FakeDevice("npu"))
    plan = dataclasses.replace(chat.plan, device=choice)
    assert measure_peaks(dataclasses.replace(chat, plan=plan)) is None


def test_float32_bounds_where_there_is_nothing_better() -> None:
    plain = Peaks(1.0, {Arithmetic.FLOAT: 1.0})
    assert plain.arithmetic(Arithmetic.INTEGER) is Arithmetic.FLOAT
    both = Peaks(1.0, {Arithmetic.FLOAT: 1.0, Arithmetic.INTEGER: 4.0})
    assert both.arithmetic(Arithmetic.INTEGER) is Arithmetic.INTEGER
