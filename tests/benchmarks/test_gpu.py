"""The bundle for the first GPU, and the predictions: what needs neither a GPU nor a compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import cases, instructions, kernel_cases, predictions, run
from benchmarks.gpu.cases import Case


def record(step: str = "speed", **more: Any) -> dict[str, Any]:
    return {"step": step, "what": "a thing", **more}


def test_a_step_that_is_cut_off_or_fails_keeps_what_it_found(tmp_path: Path) -> None:
    program = """
import json, sys, time
print(json.dumps({"step": sys.argv[1], "what": "first", "value": 1.5, "unit": "us"}), flush=True)
if sys.argv[1] == "fails": sys.exit("it is broken")
if sys.argv[1] == "hangs":
    import threading
    threading.Event().wait()
"""
    results = run.Results(tmp_path)
    for name in ("works", "fails", "hangs"):
        command = [run.sys.executable, "-c", program]
        run.run_step(results, [name], command, dict(run.os.environ), 1.5)
    firsts = [one["step"] for one in results.records if one["what"] == "first"]
    assert firsts == ["works", "fails", "hangs"]
    failed = [one for one in results.records if one["what"] != "first"]
    assert [one["step"] for one in failed] == ["fails", "hangs"]
    assert failed[0]["ok"] is False
    assert "it is broken" in failed[0]["note"]
    assert "cut off" in failed[1]["note"]
    assert not results.passed
    written = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(written) == len(results.records)


def test_shares_are_of_what_was_measured_in_the_run() -> None:
    found = [
        record("peaks", value=3000.0, unit="GB/s"),
        record("torch", value=500.0, unit="TFLOP/s"),
        record(value=812.4, unit="tok/s", bytes_per_second=2.4e12),
        record(value=9000.0, unit="tok/s", operations_per_second=125e12),
        record("kernels", ok=False, note="it is off"),
    ]
    table = run.table(found, emulated=False)
    assert "| a thing | 812.4 tok/s | 80 % |  |" in table
    assert "| a thing | 9,000 tok/s |  | 25 % |" in table
    assert "Checks: 0 of 1 passed." in table
    assert "WRONG: kernels: a thing: it is off" in table
    assert "emulated" not in table
    assert "times say nothing" in run.table(found, emulated=True)


def test_a_python_that_the_bundle_has_nothing_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"3\.99"):
        run.bundle_python(["3.99"])


def small(kernels: Any, run: cases.Run, rng: np.random.Generator) -> None:
    """Twice some numbers."""
    x, y = rng.standard_normal(4), np.zeros(4)
    run(kernels.double(4), x, y)
    np.testing.assert_array_equal(y, 2 * x)


class Doubles:
    def double(self, count: int) -> str:
        return f"kernel of {count}"


def test_a_case_names_its_kernel_and_stops_there() -> None:
    assert cases.kernel_of(small, Doubles()) == "kernel of 4"


def test_a_case_sees_a_wrong_result() -> None:
    import tvm

    def double(x: Any, y: Any) -> None:
        y.copyfrom(2 * x.numpy())

    cases.check(small, double, tvm.cpu())
    library = {"small": lambda x, y: y.copyfrom(3 * x.numpy())}
    ((name, problem),) = cases.check_all({"small": small}, library, tvm.cpu())
    assert name == "small"
    assert "Mismatched elements" in problem


def test_scratch_memory_is_what_only_the_kernel_knows_of() -> None:
    import tvm

    class Kernels:
        def double(self, count: int) -> list[tuple[int, ...]]:
            return [(count, 2), (3,)]

    def with_scratch(kernels: Any, run: cases.Run, rng: np.random.Generator) -> None:
        kernel = kernels.double(4)
        own = np.zeros(4)
        more = [np.zeros(shape, "float32") for shape in kernel] if isinstance(kernel, list) else []
        run(kernel, own, *more)
        np.testing.assert_array_equal(own, [6] * 4)

    def sizes(own: Any, first: Any, second: Any) -> None:
        assert (first.dtype, second.dtype) == ("float32", "float32")
        own.copyfrom(np.full(4, float(np.prod(first.shape) - 2 * len(second.shape))))

    scratch = cases.scratch_of(with_scratch, Kernels())
    assert scratch == [((4, 2), "float32"), ((3,), "float32")]
    assert cases.scratch_of(small, Doubles()) == []
    cases.check(with_scratch, sizes, tvm.cpu(), scratch)


@pytest.mark.parametrize("case", [*kernel_cases.QUICK.values(), *instructions.CASES.values()])
def test_each_case_fails_where_its_kernel_does_nothing(case: Case) -> None:
    import tvm

    with pytest.raises(AssertionError):
        cases.check(case, lambda *_: None, tvm.cpu())


def test_the_layers_of_a_model_are_counted_once_each() -> None:
    def launches(*names: str) -> list[dict[str, Any]]:
        return [{"kernel": name, "blocks": 1} for name in names]

    layer = ("norm", "linear", "norm", "linear2")
    three = launches("embedding", *layer, *layer, *layer, "norm", "head")
    whole = predictions.whole_model(three, 5)
    assert [one["kernel"] for one in whole] == ["embedding", *layer * 5, "norm", "head"]
    other_first = launches("embedding", "first", *layer, *layer, "norm", "head")
    whole = predictions.whole_model(other_first, 5)
    assert [one["kernel"] for one in whole][:6] == ["embedding", "first", *layer]
    assert len(whole) == 2 + 4 * 4 + 2
    with pytest.raises(ValueError, match="like another"):
        predictions.whole_model(launches("a", "b", "c"), 4)


GPU = predictions.GPU("a GPU", "sm_90", 1e12, 100, 1e9)


def launch(**more: Any) -> predictions.Launch:
    code = {"sm_90": {"registers": 32, "instructions": 320, "loaded": 64}}
    values: dict[str, Any] = {"calls": 2, "blocks": 100, "moved": 10**6, "read": 2 * 10**6}
    return predictions.Launch(kernel="k", code=code, **values | more)


def test_a_launch_takes_its_bytes_or_its_instructions() -> None:
    one = launch()
    assert one.memory_seconds(GPU) == pytest.approx(1e-6)
    # A thread loads 64 bytes with 320 instructions, and 32 threads run as one.
    assert one.issued("sm_90") == pytest.approx(2e6 / 64 * 320 / 32)
    assert one.issue_seconds(GPU) == pytest.approx(312500 / (4 * 100 * 1e9))
    few = launch(blocks=1)
    assert few.memory_seconds(GPU) == pytest.approx(1e6 / 64e9)
    assert few.issue_seconds(GPU) == pytest.approx(100 * one.issue_seconds(GPU))
    token = predictions.Token((one,), needed=2 * 10**6)
    assert (token.count, token.moved) == (2, 2 * 10**6)
    assert token.memory_bound(GPU) == pytest.approx(5e5)
    assert token.speeds(GPU) == pytest.approx([1 / (2e-6 + 3e-6), 1 / (2e-6 + 4e-6)])


def test_the_docs_have_the_tables_of_the_record() -> None:
    page = predictions.PAGE.read_text(encoding="utf-8")
    assert predictions.with_tables(page, predictions.tables(predictions.load())) == page


@pytest.mark.parametrize("name", predictions.load())
def test_a_token_reads_what_it_must_and_little_more(name: str) -> None:
    """Counted on the emulated GPU when the record was made."""
    for context, token in predictions.load()[name].items():
        # A small model's long context: the parts of its attention are written and read once more.
        most = 1.0305 if (name, int(context)) == ("tinyllama-1.1b", 8192) else 1.03
        assert 1 <= token.moved / token.needed <= most, context
