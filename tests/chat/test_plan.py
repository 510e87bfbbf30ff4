"""What a chat is made of is checked before anything is compiled or loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.chat.plan import ChatPlan, plan_chat
from mlc_llm.config import ChatConfig
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import (
    ConfigError,
    DeviceError,
    LibraryError,
    MLCError,
    ModelFolderError,
    PluginError,
    TemplateError,
)
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime import memory
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.testing import raises
from mlc_llm.weights.locate import DEMO, resolve_model

PREFIX = {"name": "plain", "roles": {"user": "U", "assistant": "A"}, "seps": ["\n"]}
WRONG: dict[str, tuple[dict[str, Any], type[MLCError]]] = {
    "an unknown template": ({"conv_template": "lama-2"}, TemplateError),
    "a template of another tokenizer": (
        {"conv_template": {**PREFIX, "system_prefix_token_ids": [1 << 20]}},
        TemplateError,
    ),
    "a template with a message of no role": (
        {"conv_template": {**PREFIX, "messages": [["nurse", "Hello"]]}},
        TemplateError,
    ),
    "a sink as large as the window": (
        {"sliding_window_size": 64, "attention_sink_size": 64},
        ConfigError,
    ),
    "a window beyond what positions can be": ({"context_window_size": 1 << 40}, ConfigError),
    "a window that memory does not hold": ({"context_window_size": 1 << 30}, DeviceError),
    "an unknown option": ({"opt": "activation=a8"}, ConfigError),
    "an unknown value of an option": ({"opt": "activations=a9"}, ConfigError),
    "an option without a value": ({"opt": "activations"}, ConfigError),
    "a library that is not there": ({"model_lib": "nowhere.so"}, LibraryError),
}


def plan(model: str | Path = DEMO, device: str = "cpu", **config: Any) -> ChatPlan:
    return plan_chat(str(model), device, ChatConfig(**config), None, default_registry())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo model, to be damaged."""
    return Path(shutil.copytree(resolve_model(DEMO), tmp_path / "model"))


def edit(path: Path, change: Any) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize(("config", "kind"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_refused(config: dict[str, Any], kind: type[MLCError]) -> None:
    with pytest.raises(kind):
        plan(device="auto" if "model_lib" in config else "cpu", **config)


def test_nothing_is_compiled_for_it() -> None:
    """Neither TVM nor the compiling child is started: that is what takes the time."""
    settings = [config for config, _ in WRONG.values()]
    program = f"""
import subprocess, sys
def started(*arguments, **keywords):
    raise AssertionError(f"a process was started: {{arguments}}")
subprocess.Popen.__init__ = started
from mlc_llm import ChatConfig, ChatModule
from mlc_llm.errors import MLCError
for config in {settings!r}:
    try:
        ChatModule("demo", "cpu", ChatConfig(**config))
    except MLCError:
        continue
    raise AssertionError(f"it was accepted: {{config}}")
assert "tvm" not in sys.modules
print("refused", len({settings!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"refused {len(WRONG)}\n", done.stderr


def test_an_unknown_device_and_architecture(folder: Path) -> None:
    with pytest.raises(DeviceError):
        plan(device="no-such-device")
    edit(folder / "mlc-chat-config.json", lambda data: data.update(model_type="no-such-model"))
    with pytest.raises(PluginError):
        plan(folder)


def test_weights_of_another_model(folder: Path) -> None:
    def smaller(data: Any) -> None:
        data["model_config"]["intermediate_size"] //= 2

    edit(folder / "mlc-chat-config.json", smaller)
    with raises("weights-mismatch", "down_proj", "the shape", error=ModelFolderError):
        plan(folder)


def test_a_prefill_step_is_no_longer_than_the_device_gains_by() -> None:
    assert CPU.prefill_rows == 128
    assert plan(context_window_size=300, prefill_chunk_size=200).model.window.chunk == 128


def test_what_is_planned_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(context_window_size=100, prefill_chunk_size=7, opt=" activations = a16 ")
    assert planned.model.window == ContextWindow(100, 7)
    assert planned.model.spec.opt == "activations=a16"
    assert planned.request.device == "cpu"
    need = planned.model.memory
    monkeypatch.setattr(memory, "available_memory", lambda: need.total - 1)
    with raises("memory-too-small", error=DeviceError):
        plan(context_window_size=100, prefill_chunk_size=7)
    monkeypatch.setattr(memory, "available_memory", lambda: need.total)
    plan(context_window_size=100, prefill_chunk_size=7)


def test_a_change_that_needs_another_library_is_refused() -> None:
    registry, planned = default_registry(), plan()
    config, path = planned.folder.config, planned.folder.path
    same = planned.settings.of(config, ChatConfig(context_window_size=99), registry, path)
    assert planned.changed(same, registry).model.window.size == 99
    other = planned.settings.of(config, ChatConfig(opt="activations=a8"), registry, path)
    with raises("setting-settled", "activations=a8", error=ConfigError):
        planned.changed(other, registry)


def test_a_window_beyond_what_the_model_was_trained_for(caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> list[str]:
        return [text for text in caplog.messages if "trained for 512" in text]

    planned = plan(context_window_size=512)
    assert not warnings()
    longer = plan(context_window_size=100000)
    assert len(warnings()) == 1
    registry = default_registry()
    longer.changed(longer.settings, registry)
    assert len(warnings()) == 1  # It was said when the model was loaded.
    planned.changed(longer.settings, registry)
    assert len(warnings()) == 2
