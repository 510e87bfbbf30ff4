"""The command: what it writes where, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.cli.app import run
from mlc_llm.cli.bench.document import document
from mlc_llm.cli.bench.measurement import measure
from mlc_llm.cli.bench.settings import BenchSettings

CLI = Callable[..., Any]

SIZES = ("--prompt-length", "8", "--generate-length", "4", "--repeat", "2")
SPREAD = {"median", "least", "most", "values"}


def test_the_table_is_all_of_stdout(mlc_llm: CLI, model: Path, library: Path) -> None:
    options = ("--device", "cpu", "--model-lib", library, "--threads", "1", "--context", "3")
    result = mlc_llm("bench", model, *options, *SIZES)
    assert result.returncode == 0, result.stderr
    title, header, *rows = result.stdout.splitlines()
    assert title == f"{model.name}, cpu:0, 1 thread, context 3, 2 repeats"
    assert header.split() == ["median", "least", "most"]
    assert [row[: row.index("  ")] for row in rows] == [
        "prefill of 8, tok/s",
        "decode of 4, tok/s",
        "time to first token, ms",
        "memory of the process, loaded",
        "memory of the process, most",
        "weights",
        "KV cache",
    ]
    for row in rows[:3]:
        median, least, most = map(float, row.split()[-3:])
        assert 0 < least <= median <= most
    assert f"Using library model: {library}" in result.stderr


def test_deterministic_asks_for_another_library(mlc_llm: CLI, model: Path, library: Path) -> None:
    options = ("--device", "cpu", "--model-lib", library, "--deterministic")
    result = mlc_llm("bench", model, *options, *SIZES)
    assert (result.returncode, result.stdout) == (1, "")
    assert "deterministic" in result.stderr


def test_the_document_with_a_profile_and_a_picture(
    mlc_llm: CLI, model: Path, library: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "profile.svg"
    options = ("--model-lib", library, "--json", "--picture", picture)
    result = mlc_llm("bench", model, *options, *SIZES, variables={"TVM_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found) == {
        *("versions", "machine", "model", "settings", "prefill", "decode"),
        *("time_to_first_token", "memory", "profile"),
    }
    assert found["settings"] == {
        "prompt_length": 8,
        "generate_length": 4,
        "context": 0,
        "repeat": 2,
    }
    assert found["model"]["threads"] == 1
    assert found["model"]["device"] == "cpu:0"
    for phase in ("prefill", "decode"):
        profile = found["profile"][phase]
        kernels = sum(row["seconds"] for row in profile["kernels"])
        assert kernels + profile["outside_seconds"] == pytest.approx(profile["seconds"])
        assert {"kernel", "calls", "bytes", "operations"} <= set(profile["kernels"][0])
    assert found["profile"]["peaks"]["bytes_per_second"] > 0
    assert set(found["profile"]["peaks"]["operations_per_second"]) >= {"float32"}
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_the_tables_of_a_profile(chat: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from mlc_llm.cli.bench.profiling import profile
    from mlc_llm.cli.bench.tables import show_profile

    show_profile(profile(chat, BenchSettings(prompt_length=8, generate_length=4, repeat=2)))
    lines = capsys.readouterr().out.splitlines()
    (prefill,) = [i for i, line in enumerate(lines) if line.startswith("Prefill of 8 tokens: ")]
    (decode,) = [i for i, line in enumerate(lines) if line.startswith("Decode of a token: ")]
    assert prefill < decode
    shares = [float(line.split("%")[0].split()[-1]) for line in lines[prefill + 2 : decode - 1]]
    assert shares[-1] == 100.0
    assert sum(shares[:-1]) == pytest.approx(100, abs=1)
    # No peaks were given, and none are invented.
    assert not any("Peaks" in line for line in lines)
    assert max(line.count("%") for line in lines) == 1


def test_the_document(chat: Any) -> None:
    settings = BenchSettings(prompt_length=8, generate_length=4, repeat=3)
    measurement = measure(chat, settings)
    found = document(chat, measurement)
    assert json.loads(json.dumps(found)) == found
    assert set(found["versions"]) == {"mlc_llm", "tvm", "numpy", "python"}
    assert set(found["machine"]) == {"cpu", "cores", "system"}
    assert set(found["memory"]) == {"loaded", "peak", "weights", "kv_cache"}
    for phase, seconds in (("prefill", measurement.prefill), ("decode", measurement.decode)):
        assert set(found[phase]) == {"seconds", "tokens_per_second"}
        for spread in found[phase].values():
            assert set(spread) == SPREAD
        assert found[phase]["seconds"]["values"] == list(seconds.values)
    assert set(found["time_to_first_token"]) == SPREAD
    assert "profile" not in found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt-length", "0"], "0 is not a whole number from 1."),
        (["--generate-length", "-3"], "-3 is not a whole number from 1."),
        (["--context", "-1"], "-1 is not a whole number from 0."),
        (["--repeat", "often"], "often is not a whole number from 1."),
        (["--threads", "1.5"], "1.5 is not a whole number from 1."),
        (["--picture", "profile.gif"], "profile.gif does not end with .svg or .png."),
    ],
)
def test_bad_values(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True)


def test_a_context_that_does_not_fit(
    model: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--model-lib", str(library), "--context", "250"]
    assert run(["bench", str(model), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "A context of 250 tokens and 128 more do not fit into the context window of 256" in err
