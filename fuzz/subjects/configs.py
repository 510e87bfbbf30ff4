"""``mlc-chat-config.json`` of a model folder; ``config.json`` and ``generation_config.json`` of a
checkpoint."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.small_model import TINY, checkpoint, link_files, model_folder
from mlc_llm.chat.plan import ModelPlan
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile
from mlc_llm.convert.chat_config import gen_config
from mlc_llm.convert.plan import make_plan
from mlc_llm.convert.source import SourceModel
from mlc_llm.quantization import plan
from mlc_llm.registry.choice import Choice, choose_device
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime import memory
from mlc_llm.sources.folder import CONFIG_FILE
from mlc_llm.testing.model_folder import SMALL_CONFIG
from mlc_llm.weights.folder import ModelFolder, read_manifest


class ChatConfigFile(Subject):
    """What a chat is planned by, up to the library that would be compiled."""

    name = "chat-config"
    share = 1.5

    def seeds(self) -> list[Case]:
        written = json.loads((model_folder() / CHAT_CONFIG_FILE).read_bytes())
        named = {**written, "conv_template": "llama-2", "context_window_size": 0}
        slides = {**written, "sliding_window_size": 64, "attention_sink_size": 4}
        slides["model_type"] = "mistral"
        return [{CHAT_CONFIG_FILE: json_bytes(data)} for data in (written, named, slides)]

    @cached_property
    def _device(self) -> Choice:
        return choose_device("cpu", default_registry())

    def feed(self, folder: Path) -> None:
        registry = default_registry()
        file = ModelFile.load(folder / CHAT_CONFIG_FILE)
        settings = ChatSettings.of(file, None, registry, model_folder())
        tiny = model_folder()
        with ModelFolder(tiny, file, read_manifest(tiny)) as opened:
            planned = ModelPlan.of(settings, opened, self._device, registry)
        planned.spec.digest()
        room = memory.available_on(self._device.adapter)
        memory.require(planned.memory, room, planned.window)


class SourceConfig(Subject):
    """What a checkpoint is converted by, and the configuration that is made of it."""

    name = "source-config"
    share = 1.5

    def seeds(self) -> list[Case]:
        llama: dict[str, Any] = {**SMALL_CONFIG, **TINY}
        scaling = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
        yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
        configs = (
            llama,
            {**llama, "rope_scaling": scaling, "hidden_act": "silu", "dtype": "float32"},
            {**llama, "rope_scaling": yarn, "eos_token_id": [2, 3], "pad_token_id": 0},
            {**llama, "model_type": "mistral", "sliding_window": 64},
            {k: v for k, v in llama.items() if k not in ("head_dim", "num_key_value_heads")},
        )
        configs[-1].update(head_dim=16, num_key_value_heads=1, rope_parameters={"rope_theta": 5e5})
        generation = json_bytes({"temperature": 0.6, "top_p": 0.9, "do_sample": True})
        return [
            {CONFIG_FILE: json_bytes(config), "generation_config.json": generation}
            for config in configs
        ]

    def feed(self, folder: Path) -> None:
        link_files(checkpoint(), folder)
        model = SourceModel.open(folder)
        make_plan(model.checkpoint(), model.architecture, model.config, plan("q4f16_1"))
        ModelFile.load(gen_config(folder, "q4f16_1", "llama-2", folder / "made"))
