"""Conformance tests for an architecture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.device.cpu import CPU
from mlc_llm.model.module import named_parameters
from mlc_llm.plugin import Architecture, Device, ModelConfig, ModelSpec
from mlc_llm.quantization import PLANS, folder_plan
from mlc_llm.sources.folder import CONFIG_FILE
from mlc_llm.testing.model_folder import make_checkpoint
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.registry import registry_of
from mlc_llm.testing.suite import Suite
from mlc_llm.testing.workbench import Workbench, largest_error
from mlc_llm.weights.folder import ModelFolder

GIVEN_LATER = (
    "vocab_size",
    "context_window_size",
    "max_position_embeddings",
    "prefill_chunk_size",
    "attention_sink_size",
)
"""Fields of a config that code is not compiled for."""


class ArchitectureConformance(Suite):
    """Tests of an architecture. Subclass it and set :attr:`architecture`.

    Override :meth:`checkpoint` unless the architecture has Llama's tensors and fields, and
    :meth:`reference` so that there is something to compare with.
    """

    architecture: Architecture
    """The architecture."""

    device: Device = CPU
    """The device that the model runs on."""

    tolerance: float = 1e-3
    """How far a logit may be off in float32, in standard deviations of the logits."""

    @pytest.fixture
    def checkpoint(self, workbench: Workbench) -> Path:
        """A folder with a small random model in Hugging Face's layout.

        It needs ``config.json``, ``model.safetensors`` and a tokenizer. It may be the same
        folder every time.
        """
        path = workbench.folder / self.architecture.name
        if path.is_dir():
            return path
        return make_checkpoint(path, model_type=self.architecture.name)

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Logits | None:
        """From the ids of all tokens to the logits after the last one, by another implementation.

        None when there is no such implementation.
        """
        return None

    @pytest.fixture
    def data(self, checkpoint: Path) -> dict[str, Any]:
        """The checkpoint's ``config.json``."""
        data: dict[str, Any] = json.loads((checkpoint / CONFIG_FILE).read_text(encoding="utf-8"))
        return data

    @pytest.fixture
    def config(self, data: dict[str, Any]) -> ModelConfig:
        """The same, as the architecture reads it."""
        return self.architecture.config(data)

    def test_name(self, data: dict[str, Any]) -> None:
        """The registry takes it, and the checkpoint's ``model_type`` is its name."""
        name = self.architecture.name
        assert registry_of(architectures={name: self.architecture}).architecture(name)
        assert data["model_type"] == name, f"config.json says {data['model_type']!r}, not {name!r}"

    def test_config_is_kept_by_a_model_folder(self, config: ModelConfig) -> None:
        """A model folder holds the config as JSON, and it is read again from there."""
        assert isinstance(config, ModelConfig), f"config() returned {config!r}"
        dumped = json.loads(json.dumps(config.model_dump(mode="json")))
        again = self.architecture.config(dumped)
        assert again == config, "reading the config's own JSON gives another config"

    def test_config_is_kept_by_its_shape(self, config: ModelConfig) -> None:
        """A library is compiled from the shape alone."""
        shape = json.loads(json.dumps(config.shape()))
        assert shape == config.shape(), f"the shape is not plain JSON: {config.shape()!r}"
        least = self.architecture.config({"vocab_size": 1, "context_window_size": -1, **shape})
        assert least.shape() == shape, "the config that is read from the shape has another shape"
        wanted = config.model_dump(mode="json")
        given_later = {name: wanted[name] for name in GIVEN_LATER}
        found = self.architecture.config({**shape, **given_later}).model_dump(mode="json")
        lost = sorted(name for name in wanted if found.get(name) != wanted[name])
        assert not lost, f"the shape loses {lost}, so that two models would share one library"

    def test_refuses_a_wrong_config(self, data: dict[str, Any]) -> None:
        """Nothing, and a size that is none, are errors; other fields are passed over."""
        for wrong in ({}, {**data, "hidden_size": "wide"}, {**data, "num_hidden_layers": 0}):
            with pytest.raises(ValueError):  # noqa: PT011 - the text is the author's
                self.architecture.config(wrong)
        more = {**data, "a_field_of_a_later_version": 1}
        assert self.architecture.config(more) == self.architecture.config(data)

    def test_attention(self, config: ModelConfig) -> None:
        """Every layer is described, and uses keys of its own or of an earlier one."""
        layers = self.architecture.attention(config)
        assert len(layers) == config.num_hidden_layers, f"{len(layers)} layers are described"
        for index, layer in enumerate(layers):
            assert layer.query_heads % layer.kv_heads == 0, f"layer {index}: {layer}"
            if layer.keys_of is not None:
                owner = layers[layer.keys_of]
                assert layer.keys_of < index, f"layer {index} uses keys of {layer.keys_of}"
                assert owner.keys_of is None, f"layer {layer.keys_of} has no keys of its own"
                assert owner.page_shape == layer.page_shape, f"layer {index}: {layer}, {owner}"

    def test_weight_map(self, config: ModelConfig) -> None:
        """It has the module's parameters, each once."""
        weights = self.architecture.weights(config)
        names = Counter(weight.name for weight in weights)
        assert all(count == 1 for count in names.values()), _twice(names)
        module = set(named_parameters(self.architecture.module(config)))
        assert set(names) == module, (
            f"only the weight map has {sorted(set(names) - module)}; "
            f"only the module has {sorted(module - set(names))}"
        )

    @pytest.mark.parametrize("quantization", PLANS)
    def test_converts(self, checkpoint: Path, workbench: Workbench, quantization: str) -> None:
        """The checkpoint is converted whole, and the folder asks for the same code."""
        path = workbench.convert(checkpoint, quantization, self.architecture)
        folder = ModelFolder.open(path)
        spec = ModelSpec.of(folder.config, self.architecture, folder_plan(folder.config))
        data = json.loads((checkpoint / CONFIG_FILE).read_text(encoding="utf-8"))
        assert spec.shape == self.architecture.config(data).shape(), (
            "the model folder's config has another shape than the checkpoint's"
        )

    def test_agrees_with_the_reference(
        self, checkpoint: Path, reference: Logits | None, workbench: Workbench
    ) -> None:
        """Converted, compiled and run, prefill and decoding give the reference's logits."""
        path = workbench.convert(checkpoint, "q0f32", self.architecture)
        model = workbench.load(path, self.architecture, self.device)
        if reference is None:
            pytest.skip("it runs, but no reference is given to compare with; override `reference`")
        error, place = largest_error(model, reference)
        assert error <= self.tolerance, (
            f"a logit is off by {error:.2g} standard deviations, {place}; "
            f"allowed are {self.tolerance:g}"
        )


def _twice(names: Counter[str]) -> str:
    return f"more than once: {sorted(name for name, count in names.items() if count > 1)}"
