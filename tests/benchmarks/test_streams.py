"""Many answers on several sides: what they are asked, in which order, and the tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.batched_bench import BatchedBench, decode_seconds
from benchmarks.child import Child
from benchmarks.contestants import OPENVINO_ACTIVATIONS, OPENVINO_GROUPS, SIDES, Setup
from benchmarks.results import Samples
from benchmarks.streams import arrival_table, measure, parse, table

SIDE = """
import sys
from benchmarks.protocol import answer_requests

def measure(request):
    with open(sys.argv[2], "a") as log:
        print(sys.argv[1], request["streams"], request["tokens"], request["steps"], file=log)
    return {"seconds": float(sys.argv[3])}

answer_requests({"name": "fake", "version": "1"}, measure)
"""

PROGRAM = """#!{python}
import json, sys
if "--version" in sys.argv:
    sys.exit(print("version: 7 (abc)"))
value = lambda name: int(sys.argv[sys.argv.index(name) + 1])
print("a word of the program")
streams, steps = value("-npl"), value("-ntg")
cells = value("--ctx-size")
if streams * (value("-npp") + steps) <= cells:
    print(json.dumps({{"pl": streams, "tg": steps, "n_kv_max": cells, "t_tg": 0.25 * streams}}))
"""


def test_sides_are_measured_in_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def child(name: str, seconds: float) -> Child:
        return Child([sys.executable, "-c", SIDE, name, str(log), str(seconds)], threads=1)

    with child("a", 0.5) as first, child("b", 0.25) as second:
        results = measure({"a": first, "b": second}, [1, 3], tokens=20, steps=4, rounds=2)
    assert results[1]["a"].values == [8.0] * 2
    assert results[3]["a"].values == [24.0] * 2
    assert results[3]["b"].values == [48.0] * 2
    lines = [line.split() for line in log.read_text().splitlines()]
    # One warm-up each, then rounds there and back.
    assert [line[0] for line in lines] == list("ab" + "ab" + "ba") * 2
    assert [line[1:] for line in lines] == [["1", "20", "4"]] * 6 + [["3", "20", "4"]] * 6


def test_llama_cpps_program(tmp_path: Path) -> None:
    program = tmp_path / "llama-batched-bench"
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    with BatchedBench(program, tmp_path / "a.gguf", threads=2, flash_attention=False) as side:
        assert side.about["version"] == "version: 7 (abc)"
        for tokens, steps in ((256, 48), (500, 12), (1, 1)):
            assert side.seconds({"streams": 4, "tokens": tokens, "steps": steps}) == 1.0


def test_a_program_that_measured_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no 4 streams"):
        decode_seconds('{"pl": 2, "t_tg": 1.0}\nno more', 4)


def test_the_table() -> None:
    results = {
        1: {"mlc_llm": Samples([10.0, 12.0, 11.0]), "llama.cpp": Samples([5.5])},
        8: {
            "mlc_llm": Samples([33.0]),
            "llama.cpp": Samples([11.0]),
            "openvino-genai, g32": Samples([20.0]),
            "openvino-genai, g128": Samples([30.0]),
        },
    }
    header, one, eight = table(results)
    assert header[-3:] == ["/ one stream", "/ llama.cpp", "/ openvino-genai"]
    assert one == ["1", "11.0", "10.0-12.0", "5.5", "5.5-5.5", "-", "-", "1.00", "2.00", "-"]
    assert eight[-3:] == ["3.00", "3.00", "1.10"]
    assert [row[-3] for row in table({8: results[8]})[1:]] == ["-"]


def test_the_table_of_an_arrival() -> None:
    rounds = [
        {"before": [0.01] * 99 + [0.5], "during": [0.02] * 50, "first_token": 3.0, "alone": 2.0},
        {"before": [0.01] * 100, "during": [0.02] * 49 + [0.04], "first_token": 5.0, "alone": 2.0},
    ]
    _, median, tail, start = arrival_table(rounds)
    assert median[1:] == ["10.0", "20.0", "2.00"]
    assert tail[1:3] == ["10.0", "20.2"]  # NumPy's percentile lies between two of the values
    assert start[1:] == ["2000.0", "4000.0", "2.00"]


def test_streams_are_whole_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["speed", "--streams", "4", "0"])
    assert "--streams" in capsys.readouterr().err


def test_each_side_of_openvino_has_its_groups(tmp_path: Path) -> None:
    setup = Setup("tinyllama-1.1b", "q4", threads=1, room=512, work=tmp_path)
    for name, group in OPENVINO_GROUPS.items():
        setup.model(f"ov-g{group}").mkdir(exist_ok=True)
        *command, properties = SIDES[name](setup)
        assert command[3] == str(tmp_path.resolve() / f"tinyllama-1.1b-ov-g{group}")
        assert f'"DYNAMIC_QUANTIZATION_GROUP_SIZE": "{OPENVINO_ACTIVATIONS[name]}"' in properties
