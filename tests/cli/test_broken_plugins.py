"""A dozen broken plugins, installed at once: chats work as before, and each one is reported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLI = Callable[..., Any]

DEVICE = """
from mlc_llm.plugin import Adapter, Availability, Device
class Base(Device):
    name = {name!r}
    priority = 500
    def probe(self):
        {probe}
    def open(self, index): ...
    def target(self, index=0): return {{}}
    def codegen(self, target, opt): ...
PLUGIN = Base()
"""


def device(name: str, probe: str = "return Availability((Adapter('x'),))", extra: str = "") -> str:
    return DEVICE.format(name=name, probe=probe) + extra


AT_LOADING = {
    # name: (kind, source or None for a module that is missing, what `mlc_llm plugins` says)
    "raises": ("devices", "raise RuntimeError('no such card')", "RuntimeError: no such card"),
    "exits": ("devices", "import sys; sys.exit(3)", "SystemExit: 3"),
    "missing": ("devices", None, "No module named 'broken_missing'"),
    "wrong-type": ("devices", "PLUGIN = 7", "an object of type int"),
    "future": ("devices", device("future", extra="Base.interface_version = 99"), "update mlc-llm"),
    "gerät": ("devices", "raise ValueError('kaputt: äöü 🔥')", "kaputt: äöü 🔥"),
    "bad-hook": (
        "model_libraries",
        "from mlc_llm.plugin import hookimpl\n"
        "class PLUGIN:\n"
        "    @hookimpl\n"
        "    def mlc_llm_find_library(self, wrong_argument): ...\n",
        "a hook of it is wrong",
    ),
    "bad-template": (
        "conversation_templates",
        "PLUGIN = {'roles': 7}",
        "not a valid conversation template",
    ),
    "twice": ("devices", device("twice"), "Several distributions have a device 'twice'"),
}
AT_PROBING = {
    # name: (the probe's body, what `mlc_llm devices` says)
    "quits": ("import os; os._exit(0)", "gave an answer that cannot be read"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "crashed with SIGSEGV"),
    "hangs": ("import threading; threading.Event().wait()", "did not answer in time"),
}


def install(site: Path, name: str, kind: str, source: str | None, distribution: str = "") -> None:
    distribution = distribution or f"broken-{name}"
    module = distribution.replace("-", "_").replace("ä", "ae")
    info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\nAuthor: Jürgen Ünder\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    entry_points = f"[mlc_llm.{kind}]\n{name} = {module}:PLUGIN\n"
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    if source is not None:
        (site / f"{module}.py").write_text(source, encoding="utf-8")


@pytest.fixture(scope="module")
def dozen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which twelve broken plugins are found."""
    site: Path = tmp_path_factory.mktemp("site")
    for name, (kind, source, _) in AT_LOADING.items():
        install(site, name, kind, source)
    install(site, "twice", "devices", device("twice"), distribution="other-twice")
    for name, (probe, _) in AT_PROBING.items():
        install(site, name, "devices", device(name, probe))
    return {"PYTHONPATH": str(site), "MLC_LLM_PROBE_TIMEOUT": "5", "PYTHONUTF8": "1"}


def test_there_are_a_dozen() -> None:
    assert len(AT_LOADING) + len(AT_PROBING) == 12


def test_plugins_reports_what_cannot_be_loaded(mlc_llm: CLI, dozen: dict[str, str]) -> None:
    result = mlc_llm("plugins", "--json", variables=dozen)
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    entries = [entry for entry in data["plugins"] if entry["distribution"].startswith("broken-")]
    reported = {entry["name"]: entry for entry in entries}
    assert reported.keys() == {*AT_LOADING, *AT_PROBING}
    for name, (_, _, reason) in AT_LOADING.items():
        assert reason in reported[name]["reason"], name
        assert reported[name]["version"] == "1.0"
        if name != "twice":
            assert "Traceback" in reported[name]["traceback"], name
    table = mlc_llm("plugins", variables=dozen)
    assert table.returncode == 0
    assert all(reason in table.stdout for _, _, reason in AT_LOADING.values())


def test_devices_reports_what_cannot_be_probed(mlc_llm: CLI, dozen: dict[str, str]) -> None:
    data = json.loads(mlc_llm("devices", "--json", variables=dozen).stdout)
    reasons = {item["name"]: item["reason"] for item in data["devices"] if not item["available"]}
    for name, (_, reason) in AT_PROBING.items():
        assert reason in reasons[name]
    assert data["auto"] == "cpu:0"


@pytest.mark.slow
def test_doctor_reports_all_and_exits_with_1(mlc_llm: CLI, dozen: dict[str, str]) -> None:
    result = mlc_llm("doctor", "--json", variables=dozen)
    assert result.returncode == 1, result.stderr
    broken = [f for f in json.loads(result.stdout)["findings"] if f["status"] == "broken"]
    said = "\n".join(f["detail"] for f in broken)
    for reason in (*(r for *_, r in AT_LOADING.values()), *(r for _, r in AT_PROBING.values())):
        assert reason in said
    assert all(finding["remedy"] for finding in broken)


@pytest.fixture
def torn(tmp_path: Path) -> dict[str, str]:
    """Variables with which metadata is found that is no text."""
    torn = tmp_path / "torn-1.0.dist-info"
    torn.mkdir()
    (torn / "entry_points.txt").write_bytes(b"[mlc_llm.devices]\n\xff = x:y\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_metadata_that_is_no_text(mlc_llm: CLI, torn: dict[str, str]) -> None:
    (problem,) = json.loads(mlc_llm("plugins", "--json", variables=torn).stdout)["problems"]
    assert "torn-1.0.dist-info" in problem


@pytest.mark.slow
def test_doctor_reports_metadata_that_is_no_text(mlc_llm: CLI, torn: dict[str, str]) -> None:
    # A chat does not work then: TVM reads all entry points when it is imported.
    result = mlc_llm("doctor", "--json", variables=torn)
    assert result.returncode == 1
    broken = {f["area"]: f for f in json.loads(result.stdout)["findings"] if f["remedy"]}
    assert "torn-1.0.dist-info" in broken["plugins"]["detail"]
    assert "UnicodeDecodeError" in broken["tvm"]["detail"]


def test_a_chat_works(
    mlc_llm: CLI,
    dozen: dict[str, str],
    make_checkpoint: Any,
    make_model: Any,
    make_library: Any,
) -> None:
    folder = make_model(make_checkpoint(), "q0f32")
    options = ("--prompt", "Hello", "--temperature", "0", "--max-gen-len", "8")
    library = ("--model-lib", make_library(folder))
    expected = mlc_llm("chat", folder, *library, *options)
    assert expected.returncode == 0, expected.stderr
    # Without a named library, so that every device and every library provider is asked; it lies
    # where it is allowed to be taken.
    beside = folder.parent / "beside" / folder.name
    beside.mkdir(parents=True)
    for file in folder.iterdir():
        (beside / file.name).symlink_to(file)
    (beside / "library.so").write_bytes(library[1].read_bytes())
    result = mlc_llm("chat", beside, "--allow-prebuilt", *options, variables=dozen)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected.stdout
    for name in ("raises", "exits", "missing", "future", "twice", *AT_PROBING):
        assert f"Using the device cpu, not {name}" in result.stderr
    assert "bad-hook" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_chat_on_a_named_device_imports_no_other(
    make_checkpoint: Any, make_model: Any, make_library: Any
) -> None:
    folder = make_model(make_checkpoint(), "q0f32")
    code = (
        "import sys\nfrom mlc_llm import ChatModule, GenerationConfig\n"
        f"with ChatModule({str(folder)!r}, 'cpu', None, {str(make_library(folder))!r}) as chat:\n"
        "    chat.generate('Hello', GenerationConfig(max_gen_len=1))\n"
        "print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert "mlc_llm.device.cpu" in loaded
    # Of the cuda and vulkan plugins, `import tvm` imports what gives TVM its devices, and no more.
    assert not {"mlc_llm_cuda.device", "mlc_llm_metal", "mlc_llm_vulkan.device"} & loaded
