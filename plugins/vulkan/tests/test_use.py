"""The vulkan device as a user meets it: listed, diagnosed, chatted with, and refusing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from mlc_llm_vulkan.target import target_of

from mlc_llm import ChatConfig, ChatModule
from mlc_llm.plugin import Availability
from mlc_llm.registry.choice import choose_device
from mlc_llm.testing import raises

Run = Callable[..., subprocess.CompletedProcess[str]]

QUESTION = "What is one plus one?"
CHAT = """
import sys
from mlc_llm import ChatModule, GenerationConfig

with ChatModule(sys.argv[1], device=sys.argv[2]) as cm:
    greedy = GenerationConfig(temperature=0, max_gen_len=64)
    for prompt in ("What is one plus one?", "Tell me about cats."):
        print(cm.generate(prompt, greedy))
"""


@pytest.fixture
def run(vulkan: Availability) -> Run:
    """Run Python in a child with TVM's runtime alone, as the command does for a chat."""

    def child(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TVM_USE_RUNTIME_LIB": "1", **variables}
        environment.pop("MLC_LLM_DEVICE", None)
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return child


def test_devices_lists_the_adapters_with_their_limits(run: Run, vulkan: Availability) -> None:
    result = run("-m", "mlc_llm", "devices")
    assert (result.returncode, result.stderr) == (0, "")
    for index, adapter in enumerate(vulkan.adapters):
        (row,) = [line for line in result.stdout.splitlines() if f"vulkan:{index} " in line]
        assert adapter.name in row
        for detail in ("type", "driver", "Vulkan 1.", "float16", "shared memory", "largest tensor"):
            assert f" {detail}" in row.replace("(", " ")


def test_devices_as_json(run: Run, vulkan: Availability) -> None:
    data = json.loads(run("-m", "mlc_llm", "devices", "--json").stdout)
    (device,) = [device for device in data["devices"] if device["name"] == "vulkan"]
    for listed, adapter in zip(device["adapters"], vulkan.adapters, strict=True):
        assert listed["memory"] == adapter.memory
        assert listed["memory"] is None or listed["memory"] > 1 << 27
        assert listed["largest_tensor"] == adapter.largest_tensor
        assert listed["largest_tensor"] >= 1 << 27  # what Vulkan demands of every driver
        assert listed["software"] == adapter.software
    hardware = [not adapter.software for adapter in vulkan.adapters]
    if not any(hardware):
        assert not str(data["auto"]).startswith("vulkan")


def test_hardware_comes_before_software(vulkan: Availability) -> None:
    software = [adapter.software for adapter in vulkan.adapters]
    assert software == sorted(software)


@pytest.mark.slow
def test_doctor_names_the_adapters(run: Run, vulkan: Availability) -> None:
    result = run("-m", "mlc_llm", "doctor", "--json")
    findings = json.loads(result.stdout)
    findings = findings if isinstance(findings, list) else findings["findings"]
    (found,) = [f for f in findings if (f["area"], f["name"]) == ("devices", "vulkan")]
    # A warning where a GPU lacks its driver, and software stands in for it.
    assert found["status"] == ("warning" if vulkan.remedy else "ok")
    assert vulkan.adapters[0].name in found["detail"]


@pytest.fixture(scope="module")
def small(make_checkpoint: Any, make_model: Any) -> str:
    """A random model in float32, of the shape that other tests compile as well."""
    return str(make_model(make_checkpoint(hidden_size=64, intermediate_size=100), "q0f32"))


@pytest.mark.slow
def test_a_chat_with_the_demo_says_what_the_cpu_says(run: Run) -> None:
    assert len(check_answers(run, "demo").split()) > 5


def test_a_chat_says_what_the_cpu_says(run: Run, small: str) -> None:
    assert check_answers(run, small).strip()


def check_answers(run: Run, model: str) -> str:
    """Check that a model answers on Vulkan as on the CPU; returns the answers."""
    answers = {}
    for device in ("cpu", "vulkan:0"):
        result = run("-c", CHAT, model, device)
        assert (result.returncode, result.stderr) == (0, "")
        answers[device] = result.stdout
    assert answers["vulkan:0"] == answers["cpu"]
    return answers["cpu"]


@pytest.mark.slow
def test_the_command(run: Run) -> None:
    """It prints the answer and nothing else; which device it took, it says on stderr."""
    arguments = ["chat", "--prompt", QUESTION, "--temperature", "0", "--device"]
    said = {device: run("-m", "mlc_llm", *arguments, device) for device in ("cpu", "vulkan")}
    assert said["vulkan"].stdout == said["cpu"].stdout
    assert said["vulkan"].stdout.strip()


def test_a_window_beyond_the_largest_tensor_is_refused(vulkan: Availability) -> None:
    limit = vulkan.adapters[0].largest_tensor
    assert limit is not None
    window = limit  # at a byte a token, and tokens have more
    with raises("window-too-large", window):
        ChatModule("demo", "vulkan", ChatConfig(context_window_size=window))


def test_float16_is_refused_before_anything_is_compiled(
    vulkan: Availability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter without float16, stood in for by this one's answer."""
    from dataclasses import replace

    from mlc_llm.chat import loading, plan

    def without(*arguments: Any) -> Any:
        choice = choose_device("vulkan")
        return replace(choice, adapter=replace(choice.adapter, float16=False))

    monkeypatch.setattr(plan, "choose_device", without)
    monkeypatch.setattr(loading, "load_chat", lambda *arguments: pytest.fail("it went on"))
    with raises("float16-unsupported", "q4f16_1", "q0f32 or q4f32_1"):
        ChatModule("demo", "vulkan")


def test_its_own_target_is_one_of_the_classes(vulkan: Availability) -> None:
    from mlc_llm_vulkan.parts import native_adapters

    for index, adapter in enumerate(native_adapters()):
        assert choose_device(f"vulkan:{index}").device.target(index) == target_of(adapter)


LOST = """
import sys
import tvm
from mlc_llm import ChatConfig, ChatModule
from mlc_llm.errors import DeviceError

give_up = tvm.get_global_func("mlc_llm_vulkan.give_up")

def said(call):
    try:
        call()
    except DeviceError as error:
        print(error.code, "vulkan:0" in str(error) and "is lost" in str(error))

chat = ChatModule(sys.argv[1], device="vulkan:0")
chat._chat.engine.call(lambda stop: give_up(0, False))
said(lambda: chat.reset_chat(ChatConfig(context_window_size=256)))
chat.close()
said(lambda: ChatModule(sys.argv[1], device="vulkan:0"))
"""


def test_a_device_that_is_lost_while_a_model_is_resized_or_loaded(run: Run, small: str) -> None:
    result = run("-c", LOST, small)
    assert result.stdout.splitlines() == ["device-lost True"] * 2, result.stderr
