"""What users name: models, devices, templates, quantisations, compilation options."""

from __future__ import annotations

from pathlib import Path

from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from mlc_llm.config import check_options, parse_options
from mlc_llm.errors import ConfigError, MLCError
from mlc_llm.files import read_json_object
from mlc_llm.library.record import read_record
from mlc_llm.quantization import plan
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.registry import default_registry
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model

_NAMES = {
    "model": "demo",
    "device": "cpu:0",
    "template": "llama-2",
    "quantization": "q4f16_1",
    "architecture": "llama",
    "options": "activations=a8",
    "library": "library.so",
}


class Names(Subject):
    """Each name is looked up."""

    name = "name"
    share = 0.5

    def seeds(self) -> list[Case]:
        hub = {**_NAMES, "model": "HF://org/name@main"}
        return [{"names.json": json_bytes(names)} for names in (_NAMES, hub)]

    def feed(self, folder: Path) -> None:
        names = read_json_object(folder / "names.json", ConfigError)
        registry = default_registry()
        looks = {
            "device": lambda name: choose_device(name, registry),
            "template": registry.template,
            "quantization": plan,
            "architecture": registry.architecture,
            "options": lambda text: check_options(parse_options(text), {"activations": ("a8",)}),
            "library": lambda name: read_record(folder / name),
            "model": lambda name: ModelFolder.open(resolve_model(name)),
        }
        refused: list[MLCError] = []
        for key, look in looks.items():
            name = names.get(key)
            if not isinstance(name, str) or ("\0" in name and key == "library"):
                continue
            try:
                look(name)
            except MLCError as error:
                refused.append(error)
        if len(refused) > 2:  # The library and the model of the hub are not there.
            raise max(refused, key=lambda error: len(str(error)))
