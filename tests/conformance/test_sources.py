"""The built-in formats of checkpoints, each against the library that wrote the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from mlc_llm.sources.gguf import GGUFFormat
from mlc_llm.sources.safetensors import SafetensorsFormat
from mlc_llm.sources.torch import TorchFormat
from mlc_llm.testing import SourceConformance, make_checkpoint
from mlc_llm.testing.checkpoint_contents import Values
from tests.sources.gguf_files import llama_tensors, llama_values, write_llama

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "plugins" / "source.md"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def folder_of(tmp_path: Path) -> Path:
    """A small checkpoint in safetensors with a chat template."""
    folder = make_checkpoint(tmp_path / "llama", num_hidden_layers=1)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "generation_config.json").write_text('{"temperature": 0.6}', encoding="utf-8")
    return folder


def split(tensors: dict[str, Any], folder: Path, name: str) -> list[tuple[Path, dict[str, Any]]]:
    """Two files for the tensors, which the index names."""
    names = sorted(tensors)
    stem, suffix = name.split(".")
    parts = [
        (folder / f"{stem}-{number:05}-of-00002.{suffix}", {one: tensors[one] for one in some})
        for number, some in enumerate((names[::2], names[1::2]), 1)
    ]
    weight_map = {one: file.name for file, some in parts for one in some}
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return parts


def _documented(name: str) -> Any:
    """What the Python blocks of the guide define under a name, but for the one that converts."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    defined: dict[str, Any] = {"__name__": __name__, "make_checkpoint": make_checkpoint}
    defined["safetensors"] = safetensors
    for block in blocks:
        if "convert_source" not in block:
            exec(compile(block, str(GUIDE), "exec"), defined)
    return defined[name]


class TestSafetensors(SourceConformance):
    source = SafetensorsFormat()

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return folder_of(tmp_path)

    @pytest.fixture
    def values(self, checkpoint: Path) -> Values:
        return safetensors.numpy.load_file(checkpoint / "model.safetensors")


class TestSafetensorsInParts(SourceConformance):
    source = SafetensorsFormat()

    @pytest.fixture
    def values(self, tmp_path: Path) -> Values:
        return safetensors.numpy.load_file(folder_of(tmp_path) / "model.safetensors")

    @pytest.fixture
    def checkpoint(self, tmp_path: Path, values: Any) -> Path:
        folder = tmp_path / "llama"
        (folder / "model.safetensors").unlink()
        for file, some in split(values, folder, "model.safetensors"):
            safetensors.numpy.save_file(some, file)
        return folder


class TestTorch(SourceConformance):
    source = TorchFormat()

    @pytest.fixture
    def values(self, tmp_path: Path) -> Values:
        return safetensors.numpy.load_file(folder_of(tmp_path) / "model.safetensors")

    @pytest.fixture
    def checkpoint(self, tmp_path: Path, values: Any, torch: Any) -> Path:
        folder = tmp_path / "llama"
        (folder / "model.safetensors").unlink()
        tensors = {name: torch.from_numpy(value) for name, value in values.items()}
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder


class TestGGUF(SourceConformance):
    source = GGUFFormat()

    @pytest.fixture(params=["Q4_K", "Q6_K", "Q8_0", "MXFP4", "BF16"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def checkpoint(self, tmp_path: Path, kind: str) -> Path:
        return write_llama(tmp_path / "tiny.gguf", kind, 1)

    @pytest.fixture
    def values(self, kind: str) -> Values:
        return llama_values(llama_tensors(kind, 1))


class TestDocumented(_documented("TestNumpy")):  # type: ignore[misc]
    """The suite of the guide, with the format that it has its reader write."""
