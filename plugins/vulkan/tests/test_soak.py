"""Thousands of launches and hundreds of loads leave nothing behind and break no rule of Vulkan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

pytestmark = [pytest.mark.usefixtures("vulkan"), pytest.mark.slow]

SOAK = Path(__file__).parent / "soak.py"
LAYER = "VK_LAYER_KHRONOS_validation"
MEBIBYTE = 1 << 20


def run_soak(steps: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program ``soak.py`` in a process of its own."""
    command = [sys.executable, str(SOAK), *steps]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=variables)


def results(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def soaked() -> dict[str, dict[str, Any]]:
    return results(run_soak(["launches=10000", "loads=100", "threads=4", "lives=200"]))


def test_ten_thousand_launches(soaked: dict[str, dict[str, Any]]) -> None:
    launches = soaked["launches"]
    assert launches["correct"]
    assert launches["launches"] == 10_000
    assert launches["bytes_live"] == 0
    assert launches["bind_groups"] <= 0
    assert launches["resident"] < 8 * MEBIBYTE


def test_a_hundred_loads_and_closes(soaked: dict[str, dict[str, Any]]) -> None:
    loads = soaked["loads"]
    assert loads["correct"]
    assert loads["compiled"] == 100
    assert loads["bytes_live"] == 0
    assert loads["bind_groups"] <= 0
    # llvmpipe keeps a little of each kernel that it has compiled; whole libraries would be more.
    assert loads["resident"] < 16 * MEBIBYTE


def test_four_threads(soaked: dict[str, dict[str, Any]]) -> None:
    assert soaked["threads"]["correct"]
    assert soaked["threads"]["bytes_live"] == 0
    assert soaked["threads"]["resident"] < 16 * MEBIBYTE


def test_tensors_that_come_and_go(soaked: dict[str, dict[str, Any]]) -> None:
    assert soaked["lives"]["correct"]
    assert soaked["lives"]["bytes_live"] == 0
    assert soaked["lives"]["resident"] < 8 * MEBIBYTE


LAYER_SETTINGS = """\
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf
khronos_validation.log_filename = {log}
khronos_validation.enables = {enables}
"""


def layer_messages(folder: Path, steps: list[str], enables: str = "") -> str:
    """What the validation layer writes while the steps run, which must succeed."""
    folder.mkdir()
    log, settings = folder / "log.txt", folder / "vk_layer_settings.txt"
    settings.write_text(LAYER_SETTINGS.format(log=log, enables=enables))
    done = run_soak(steps, VK_INSTANCE_LAYERS=LAYER, VK_LAYER_SETTINGS_PATH=str(settings))
    assert all(step["correct"] for step in results(done).values())
    return log.read_text() if log.exists() else ""


def test_validation_layer_reports_nothing(tmp_path: Path, lacks: Callable[[str], NoReturn]) -> None:
    # Its checks for best practices always find something, which shows that it is there.
    best_practices = "VK_VALIDATION_FEATURE_ENABLE_BEST_PRACTICES_EXT"
    if not layer_messages(tmp_path / "present", ["launches=1"], best_practices):
        lacks(f"the layer {LAYER} is not installed (Debian's package is vulkan-validationlayers)")
    steps = ["launches=300", "loads=5", "threads=4", "lives=20"]
    assert layer_messages(tmp_path / "validation", steps) == ""
