"""Models whose tensors, and parts of fused tensors, are stored in different schemes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig, convert_weight
from mlc_llm.config import ModelFile
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import QuantizationError
from mlc_llm.library.cache import LibraryCache
from mlc_llm.library.record import read_record
from mlc_llm.model.llama import LLAMA
from mlc_llm.plugin import ModelSpec, Plan, Scheme
from mlc_llm.quantization import folder_plan, plan
from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.sources.safetensors_file import read_header
from mlc_llm.testing import raises
from mlc_llm.testing.model_folder import convert_checkpoint, copy_checkpoint, make_checkpoint
from mlc_llm.testing.reference import LlamaReference
from mlc_llm.testing.workbench import Workbench, largest_error
from mlc_llm.weights.folder import ModelFolder

Q4, MINIMUM = plan("q4f16_1").linear, plan("q4f16_m").linear
Q8, Q8_SMALL = plan("q8f16_32").linear, plan("q8f16_16").linear
F16 = Scheme(16, "float16")

ATTENTION, FEED_FORWARD = "model.layers.{}.self_attn.{}.weight", "model.layers.{}.mlp.{}.weight"

MIXED = Plan(
    name="mixed",
    dtype="float16",
    linear=MINIMUM,
    embedding=Q8,
    exceptions={
        # The value projection in more bits than query and key, and in one layer only.
        ATTENTION.format(0, "qkv_proj"): (MINIMUM, MINIMUM, Q8_SMALL),
        ATTENTION.format(1, "qkv_proj"): (Q4, F16, MINIMUM),
        FEED_FORWARD.format(0, "gate_up_proj"): (Q8, Q4),
        FEED_FORWARD.format(1, "down_proj"): (Q8,),
        "lm_head.weight": (F16,),
    },
)
"""Half of the layers differ from the others, and parts of a fused weight from each other."""

PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def schemes_of_checkpoint() -> dict[str, Scheme]:
    """The schemes of the checkpoint's tensors that the plan has exceptions for."""
    found = {}
    for name, schemes in MIXED.exceptions.items():
        owner, _, last = name.removesuffix(".weight").rpartition(".")
        for source, scheme in zip(PARTS.get(last, (last,)), schemes, strict=True):
            found[f"{owner}.{source}.weight".lstrip(".")] = scheme
    return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "llama")


@pytest.fixture(scope="module")
def reference(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> LlamaReference:
    """NumPy with the weights that come back from their schemes."""
    exceptions, tensors = schemes_of_checkpoint(), {}
    for name, tensor in read_header(checkpoint / "model.safetensors").items():
        values = tensor.read()
        if values.ndim == 2:
            default = Q8 if name == "model.embed_tokens.weight" else MINIMUM
            scheme = exceptions.get(name, default)
            values = dequantize(quantize(values, scheme), values.shape[1], scheme)
        tensors[name] = values.astype(np.float16).astype(np.float32) if values.ndim == 1 else values
    rounded = tmp_path_factory.mktemp("rounded") / "llama"
    return LlamaReference(copy_checkpoint(checkpoint, rounded, tensors))


def test_logits_are_those_of_the_weights_as_they_are_stored(
    checkpoint: Path, reference: LlamaReference, libraries: LibraryCache, tmp_path: Path
) -> None:
    workbench = Workbench(tmp_path, libraries)
    folder = workbench.convert(checkpoint, MIXED, LLAMA)
    error, place = largest_error(workbench.load(folder, LLAMA, CPU), reference)
    assert error < 1e-2, place


def test_a_folder_names_each_part_and_holds_its_plan(checkpoint: Path, tmp_path: Path) -> None:
    with ModelFolder.open(convert_checkpoint(checkpoint, tmp_path / "out", MIXED)) as folder:
        assert folder_plan(folder.config) == MIXED
        names = {name for name in folder.manifest.tensors if "layers.1.self_attn.qkv" in name}
    stem = "model.layers.1.self_attn.qkv_proj"
    assert names == {
        f"{stem}.{tensor}"
        for tensor in (
            *("0.q_weight", "0.q_scale"),
            "1.weight",
            *("2.q_weight", "2.q_scale", "2.q_min"),
        )
    }


def test_a_chat_with_such_a_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library is compiled, cached and recorded for the plan, not for another of that name."""
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    settings = GenerationConfig(temperature=0, max_gen_len=8)
    libraries, answers = set(), []
    # Of few schemes, which are compiled in less time.
    parts = {FEED_FORWARD.format(0, "gate_up_proj"): (Q8, F16)}
    one = Plan(name="mixed", dtype="float16", linear=F16, embedding=F16, exceptions=parts)
    other = one.model_copy(update={"exceptions": {}})
    for number, stored in enumerate((one, other, one)):
        folder = convert_checkpoint(checkpoint, tmp_path / str(number), stored)
        with ChatModule(str(folder), "cpu", ChatConfig(context_window_size=64)) as chat:
            answers.append(chat.generate("Once", settings))
            libraries.add(chat.model_lib)
            record = read_record(Path(chat.model_lib))
        assert record.spec.plan == stored
    assert len(libraries) == 2
    assert answers[0] == answers[2]


def test_two_plans_of_one_name_differ() -> None:
    shape = {"hidden_size": 64}
    one = ModelSpec(architecture="llama", shape=shape, plan=MIXED)
    two = one.model_copy(update={"plan": MIXED.model_copy(update={"embedding": F16})})
    assert one.digest() != two.digest()
    assert any(line.startswith("embedding: ") for line in one.differences(two))


def test_weights_of_another_plan_of_that_name_are_noticed(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = convert_checkpoint(checkpoint, tmp_path / "out", MIXED)
    assert not caplog.records
    convert_weight(checkpoint, MIXED, folder)
    assert not caplog.records
    convert_weight(checkpoint, MIXED.model_copy(update={"exceptions": {}}), folder)
    assert "run gen_config again" in caplog.text


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"dtype": "float16"}, "quantization_plan.linear "),
        ({"linear": {"bits": "few", "dtype": "float16"}}, "quantization_plan.linear.bits"),
    ],
)
def test_a_malformed_plan_is_named(field: dict[str, Any], named: str, tmp_path: Path) -> None:
    file = ModelFile.model_validate(
        {
            "model_type": "llama",
            "quantization": "mixed",
            "quantization_plan": field,
            "model_config": {},
            "vocab_size": 3,
            "conv_template": "LM",
        }
    )
    with raises("model-config-invalid", named, error=QuantizationError):
        folder_plan(file)
