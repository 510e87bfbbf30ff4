"""Checks and measures mlc_llm on this machine's NVIDIA GPU, and ends by itself within 8 minutes.

    python3 run.py

Nothing is installed and nothing is downloaded. Needed are Linux on x86-64, the Python that the
bundle was made for, and NVIDIA's driver, version 580 or newer. Results are shown as they come and
are written, one line of JSON each, to results.jsonl in this folder; at the end there is a table, in
results.md. Each step is a process of its own, so that one that fails does not end the others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

Record = dict[str, Any]

HERE = Path(__file__).resolve().parent
LIMIT = 480.0
"""Seconds after which everything ends."""
LEFT_FOR_THE_TABLE = 5.0
THEIRS = ("torch", "transformers")
"""Steps that run what the machine has itself."""
MOST_WORDS = 3000
"""Characters of a failed step's complaint that are kept, from its end."""


class Results:
    """What was found so far: shown and written as it comes.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self.records: list[Record] = []
        self._folder = folder
        self._lines = folder / "results.jsonl"
        self._lines.write_text("", encoding="utf-8")

    def add(self, record: Record) -> None:
        """Take a record; see ``side.py`` for what it has."""
        self.records.append(record)
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(line(record), flush=True)

    def finish(self, emulated: bool) -> None:
        """Write the table."""
        text = table(self.records, emulated)
        (self._folder / "results.md").write_text(text, encoding="utf-8")
        print("\n" + text, flush=True)

    @property
    def passed(self) -> bool:
        """Whether every check so far did."""
        return all(bool(record.get("ok", True)) for record in self.records)


def line(record: Record) -> str:
    """A record for the eye."""
    ok = "       " if "ok" not in record else "ok     " if record["ok"] else "WRONG  "
    value = shown(record) if "value" in record else ""
    note = str(record.get("note", "")).strip()
    return f"{ok}{record['step']:13}{record['what']:58} {value:>16}  {note}".rstrip()


def shown(record: Record) -> str:
    """A value with its unit."""
    value = record["value"]
    digits = 0 if value >= 1000 or value == int(value) else 1 if value >= 10 else 3
    return f"{value:,.{digits}f} {record.get('unit', '')}"


def table(records: list[Record], emulated: bool) -> str:
    """The whole report as Markdown."""
    copy = best(records, "GB/s")
    matrix = best(records, "TFLOP/s")
    lines = ["# mlc_llm on an NVIDIA GPU", ""]
    if emulated:
        lines += ["**The GPU was an emulated one: times say nothing.**", ""]
    lines += [f"- {r['step']}: {r['what']} {r.get('note', '')}" for r in records if is_fact(r)]
    checks = [record for record in records if "ok" in record]
    passed = sum(record["ok"] for record in checks)
    lines += ["", f"Checks: {passed} of {len(checks)} passed.", ""]
    lines += [f"- WRONG: {r['step']}: {r['what']}: {r.get('note')}" for r in checks if not r["ok"]]
    lines += [
        "",
        "Shares are of the best copy and of the best product that were measured in this run.",
        "",
        "| what | measured | of the copy's GB/s | of the product's TFLOP/s |",
        "| --- | --- | --- | --- |",
    ]
    for record in records:
        if "value" in record:
            moved = share(record.get("bytes_per_second"), copy * 1e9)
            done = share(record.get("operations_per_second"), matrix * 1e12)
            lines.append(f"| {record['what']} | {shown(record)} | {moved} | {done} |")
    return "\n".join(lines) + "\n"


def is_fact(record: Record) -> bool:
    """Whether a record is neither a check nor a measurement."""
    return "ok" not in record and "value" not in record


def best(records: list[Record], unit: str) -> float:
    """The largest value in a unit; 0 where there is none."""
    return max((r["value"] for r in records if r.get("unit") == unit), default=0.0)


def share(value: float | None, whole: float) -> str:
    """A share in percent, where both are known."""
    return f"{100 * value / whole:.0f} %" if value and whole else ""


def run_step(
    results: Results,
    step: list[str],
    command: list[str],
    environment: dict[str, str],
    seconds: float,
) -> None:
    """Run a step in a child process until it ends or its time is over.

    Args:
        results: takes its records.
        step: its name and arguments.
        command: the child's.
        environment: the child's.
        seconds: how long it may take.
    """
    name = step[0]
    child = subprocess.Popen(
        [*command, name, str(HERE), *step[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    stderr = child.stderr
    complaints: list[str] = []
    reader = threading.Thread(target=lambda: complaints.append(stderr.read()), daemon=True)
    reader.start()
    over = threading.Event()

    def end() -> None:
        over.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        for text in child.stdout:
            if text.startswith("{"):
                results.add(json.loads(text))
            else:
                complaints.append(text)
        code = child.wait()
    except BaseException:
        end()
        raise
    finally:
        timer.cancel()
        reader.join(1)
        child.stdout.close()
        child.stderr.close()
    if over.is_set():
        note = f"cut off after {seconds:.0f} seconds"
        results.add({"step": name, "what": " ".join(step), "note": note})
    elif code:
        words = "".join(complaints).strip()[-MOST_WORDS:]
        failed = {} if name in THEIRS else {"ok": False}
        results.add({"step": name, "what": f"{' '.join(step)} failed", **failed, "note": words})
    elif warnings := "".join(complaints).strip():
        results.add({"step": name, "what": "it said", "note": warnings[-MOST_WORDS:]})


def bundle_python(versions: list[str]) -> tuple[str, str]:
    """The interpreter for the bundle's packages, and its version.

    Args:
        versions: those that the bundle has packages for.
    """
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if own in versions:
        return sys.executable, own
    for version in versions:
        found = shutil.which(f"python{version}")
        if found:
            return found, version
    raise SystemExit(
        f"This bundle has packages for Python {', '.join(versions)}, and this is {own}. Run it "
        f"with one of them, or make one for this: python -m benchmarks.gpu pack --python {own}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds until everything ends")
    parser.add_argument("--output", type=Path, default=HERE, help="the folder of the results")
    parser.add_argument("--steps", nargs="*", help="only these steps")
    arguments = parser.parse_args()
    contents = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    python, version = bundle_python(contents["pythons"])
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.output)
    # Whoever ends this early shall have what there is, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    steps = [
        one for one in contents["steps"] if not arguments.steps or one[0][0] in arguments.steps
    ]
    with contextlib.suppress(KeyboardInterrupt):
        run_steps(results, steps, python, version, time.monotonic() + arguments.limit)
    results.finish(emulated="libcudart" in os.environ.get("LD_PRELOAD", ""))
    return 0 if results.passed else 1


def run_steps(
    results: Results, steps: list[Any], python: str, version: str, deadline: float
) -> None:
    """Run steps until one that everything depends on fails, or the time is over.

    Args:
        results: takes what they find.
        steps: each with its name and arguments, and the seconds that it may take.
        python: the interpreter for the bundle's packages.
        version: its version.
        deadline: on the monotonic clock.
    """
    # With -S there are no packages but the bundle's; those of the machine are for the last steps.
    bundled = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    bundled["PYTHONPATH"] = os.pathsep.join(map(str, (HERE / "site", HERE / f"site-{version}")))
    bundled |= {"TVM_USE_RUNTIME_LIB": "1", "PYTHONSAFEPATH": "1"}
    ours = [python, "-S", "-m", "benchmarks.gpu.side"]
    theirs = [sys.executable, str(HERE / "site" / "benchmarks" / "gpu" / "torch_side.py")]
    for step, seconds in steps:
        left = deadline - LEFT_FOR_THE_TABLE - time.monotonic()
        if left <= 0:
            results.add({"step": step[0], "what": " ".join(step), "note": "no time was left"})
            continue
        is_theirs = step[0] in THEIRS
        command, environment = (theirs, dict(os.environ)) if is_theirs else (ours, bundled)
        run_step(results, step, command, environment, min(seconds, left))
        if step[0] == "gpu" and not results.passed:
            return


if __name__ == "__main__":
    sys.exit(main())
