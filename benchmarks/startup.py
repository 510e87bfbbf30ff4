"""What starting costs: the import, the command line, and a chat whose library is cached.

Each is a fresh process; the bare interpreter is measured too, for comparison.

    python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.random_model import write_random_model
from benchmarks.shapes import SHAPES

FIRST_TOKEN = """
import os, sys
os.environ["TVM_USE_RUNTIME_LIB"] = "1"
from mlc_llm import ChatModule, GenerationConfig
with ChatModule(sys.argv[1], "cpu") as cm:
    cm.generate("Hello", GenerationConfig(temperature=0.0, max_gen_len=1))
"""

FIRST_TIME = """
import shutil, subprocess, sys
shutil.rmtree(os.environ["MLC_LLM_CACHE"] + "/libraries", ignore_errors=True)
subprocess.run(sys.argv[1:], check=True)
"""


def seconds(command: list[str]) -> float:
    """How long a command runs; what it prints is dropped."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - begin


def report(label: str, command: list[str], rounds: int) -> None:
    """Print the median of ``rounds`` runs after one that is not counted."""
    seconds(command)
    times = [seconds(command) for _ in range(rounds)]
    print(f"{label:36} {statistics.median(times):6.3f} s  ({min(times):.3f}-{max(times):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    python = sys.executable
    report("python -c pass", [python, "-c", "pass"], arguments.rounds)
    report("import mlc_llm", [python, "-c", "import mlc_llm"], arguments.rounds)
    report(
        "from mlc_llm import ChatModule",
        [python, "-c", "from mlc_llm import ChatModule"],
        arguments.rounds,
    )
    report("mlc_llm --help", [python, "-m", "mlc_llm", "--help"], arguments.rounds)
    report("mlc_llm devices", [python, "-m", "mlc_llm", "devices"], arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        model = write_random_model(SHAPES[arguments.shape], Path(folder) / "model")
        report(
            f"first token, {arguments.shape}, cached",
            [python, "-c", FIRST_TOKEN, str(model)],
            arguments.rounds,
        )
        chat = [python, "-m", "mlc_llm", "chat", "--prompt", "Hello", "--max-gen-len", "1"]
        report("first token, demo, cached", chat, arguments.rounds)
        first = f"import os; os.environ['MLC_LLM_CACHE'] = {folder!r}; " + FIRST_TIME
        report("first token, demo, compiled", [python, "-c", first, *chat], arguments.rounds)


if __name__ == "__main__":
    main()
