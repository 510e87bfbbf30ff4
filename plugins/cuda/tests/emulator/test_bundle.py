"""The bundle for the first GPU: packed, unpacked elsewhere, and run on the emulated GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.packages import own_version

from .gpu import EMULATOR

pytestmark = pytest.mark.slow

PYTHON = Path(sys.base_prefix) / "bin" / f"python{own_version()}"
"""An interpreter that has none of our packages."""


@pytest.fixture(scope="module")
def bundle(preload: str, wheels: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle, unpacked in an empty folder."""
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is not there")
    folder = tmp_path_factory.mktemp("bundle")
    archive = folder / "small.tar.gz"
    packing = ["-m", "benchmarks.gpu", "pack", "--quick", "--arch", "90", "-o", str(archive)]
    command = [sys.executable, str(EMULATOR), sys.executable, *packing, "--python", own_version()]
    subprocess.run(command, check=True)
    place = folder / "elsewhere"
    shutil.unpack_archive(archive, place, filter="data")
    return place / "small"


def run(bundle: Path, output: Path, *options: str, **variables: str) -> tuple[int, str]:
    """Run the bundle's program; returns its code, and what it prints."""
    environment = {"PATH": os.defpath, "HOME": str(output), "TVM_NUM_THREADS": "1", **variables}
    environment["GPU_EMULATOR_CACHE"] = os.environ["GPU_EMULATOR_CACHE"]
    command = [str(PYTHON), str(bundle / "run.py"), "--output", str(output), *options]
    done = subprocess.run(command, env=environment, cwd=output, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def records(output: Path) -> list[dict[str, Any]]:
    """What a run wrote."""
    return [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]


def test_everything_is_checked_and_measured(bundle: Path, preload: str, tmp_path: Path) -> None:
    code, printed = run(bundle, tmp_path, LD_PRELOAD=preload)
    found = records(tmp_path)
    assert code == 0, printed
    assert not [one for one in found if "cut off" in one.get("note", "")]
    checked = {one["step"]: one["ok"] for one in found if "ok" in one}
    steps = ("gpu", "instructions", "kernels", "agreement", "speed")
    assert checked == dict.fromkeys(steps, True)
    measured = {one["what"] for one in found if one["step"] == "speed" and "value" in one}
    assert {f"quick: {row}" for row in ("prefill 20", "decode at 8", "decode at 40")} <= measured
    kernels = [one["what"] for one in found if one["step"] == "profile"]
    assert any("2 x attention_decode" in kernel for kernel in kernels)
    table = (tmp_path / "results.md").read_text()
    assert table in printed
    assert "an emulated one: times say nothing" in table


def test_what_was_found_until_the_deadline_is_kept(
    bundle: Path, preload: str, tmp_path: Path
) -> None:
    code, printed = run(bundle, tmp_path, "--limit", "15", LD_PRELOAD=preload)
    found = records(tmp_path)
    assert code == 0, printed
    assert [one for one in found if one.get("ok")]
    ended = [one["note"] for one in found if "what" in one and "note" in one]
    assert any("cut off after" in note for note in ended)
    assert "no time was left" in ended
    assert (tmp_path / "results.md").read_text() in printed


def test_a_machine_without_a_gpu_is_told_so(bundle: Path, tmp_path: Path) -> None:
    code, printed = run(bundle, tmp_path)
    assert code == 1
    *_, record = records(tmp_path)
    assert record["step"] == "gpu"
    assert record["ok"] is False
    assert len(record["note"]) > 20
    assert record["note"] in printed
