"""Formats of checkpoints with one mistake each, as ``broken_plugins.py`` has other plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.numpy

from mlc_llm.plugin import Codes, Scheme, Source, SourceTensor
from mlc_llm.plugin.source import Architectures, Rows
from mlc_llm.sources.safetensors import SafetensorsFormat, SafetensorsSource
from mlc_llm.sources.safetensors_file import FileTensor
from mlc_llm.testing import SourceConformance, make_checkpoint
from mlc_llm.testing.checkpoint_contents import Values


class Broken(SafetensorsFormat):
    """Safetensors, read by another source or with other tensors."""

    source_type: ClassVar[type[SafetensorsSource]] = SafetensorsSource
    tensor_type: ClassVar[type[FileTensor]] = FileTensor

    def open(self, path: Path, architectures: Architectures) -> Source:
        tensor_type = self.tensor_type

        class Opened(self.source_type):  # type: ignore[misc, name-defined]
            def tensors(self) -> Mapping[str, SourceTensor]:
                return {
                    name: tensor_type(t.name, t.shape, t.dtype, t.file, t.begin, t.end)
                    for name, t in super().tensors().items()
                }

        opened: Source = Opened(path)
        return opened


class OfSmallLlama(SourceConformance):
    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        return make_checkpoint(tmp_path / "llama", num_hidden_layers=1)

    @pytest.fixture
    def values(self, checkpoint: Path) -> Values:
        return safetensors.numpy.load_file(checkpoint / "model.safetensors")


# What it recognises


class Anything(Broken):
    def recognizes(self, path: Path) -> bool:
        return True


class TestRecognizesAnything(OfSmallLlama):
    source = Anything()


class Listing(Broken):
    def recognizes(self, path: Path) -> bool:
        return any(file.suffix == ".safetensors" for file in path.iterdir())


class TestRaisesForOthers(OfSmallLlama):
    source = Listing()


class Silent(Broken):
    def recognizes(self, path: Path) -> bool:
        return None  # type: ignore[return-value]


class TestRecognizesNothing(OfSmallLlama):
    source = Silent()


class Nameless(Broken):
    description = ""


class TestHasNoDescription(OfSmallLlama):
    source = Nameless()


# What it says of the model


class OddConfig(SafetensorsSource):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.config = {**self.config, "rope_scaling": ("yarn", 4)}


class TestConfigIsNotJSON(OfSmallLlama):
    source = type("Odd", (Broken,), {"source_type": OddConfig})()


class TextFiles(SafetensorsSource):
    def tokenizer_files(self) -> Mapping[str, Any]:
        return {name: content.decode() for name, content in super().tokenizer_files().items()}


class TestGivesText(OfSmallLlama):
    source = type("Texts", (Broken,), {"source_type": TextFiles})()


class TemplateAside(SafetensorsSource):
    chat_template = "{{ messages }}"  # type: ignore[assignment]


class TestTemplateIsInNoFile(OfSmallLlama):
    source = type("Aside", (Broken,), {"source_type": TemplateAside})()


class Forgetful(SafetensorsSource):
    def tensors(self) -> Mapping[str, Any]:
        tensors = dict(super().tensors())
        tensors.popitem()
        return tensors


class TestForgetsATensor(OfSmallLlama):
    source = type("Short", (Broken,), {"source_type": Forgetful})()


class Careless(SafetensorsSource):
    kept: ClassVar[list[Any]] = []

    def tensors(self) -> Mapping[str, Any]:
        self.kept.append((self.path / "model.safetensors").open("rb"))
        return super().tensors()


class TestLeavesFilesOpen(OfSmallLlama):
    source = type("Open", (Broken,), {"source_type": Careless})()


class OthersErrors(SafetensorsSource):
    def tensors(self) -> Mapping[str, Any]:
        safetensors.numpy.load_file(self.path / "model.safetensors")
        return super().tensors()


class TestRaisesOthersErrors(OfSmallLlama):
    source = type("Raw", (Broken,), {"source_type": OthersErrors})()


# What it reads of a tensor


class Prefixed(FileTensor):
    @property
    def name(self) -> str:  # type: ignore[override]
        return "x." + vars(self)["name"]

    def __init__(self, *args: Any) -> None:
        vars(self).update(
            zip(("name", "shape", "dtype", "file", "begin", "end"), args, strict=True)
        )


class TestMisnames(OfSmallLlama):
    source = type("Misnames", (Broken,), {"tensor_type": Prefixed})()


class Flat(FileTensor):
    def read(self, rows: Rows = ...) -> Any:
        return super().read(rows).reshape(-1)


class TestLosesTheShape(OfSmallLlama):
    source = type("Flattens", (Broken,), {"tensor_type": Flat})()


class Doubles(FileTensor):
    def read(self, rows: Rows = ...) -> Any:
        return super().read(rows).astype(np.float64)


class TestReadsDoubles(OfSmallLlama):
    source = type("Wide", (Broken,), {"tensor_type": Doubles})()


class Reversed(FileTensor):
    def read(self, rows: Rows = ...) -> Any:
        return super().read()[::-1][rows].copy()


class TestReversesRows(OfSmallLlama):
    source = type("Reverses", (Broken,), {"tensor_type": Reversed})()


class Whole(FileTensor):
    def read(self, rows: Rows = ...) -> Any:
        return super().read()


class TestIgnoresRows(OfSmallLlama):
    source = type("Ignores", (Broken,), {"tensor_type": Whole})()


class Shared(FileTensor):
    arrays: ClassVar[dict[str, Any]] = {}

    def read(self, rows: Rows = ...) -> Any:
        key = f"{self.file} {self.name}"
        if key not in self.arrays:
            self.arrays[key] = super().read()
        return self.arrays[key][rows]


class TestSharesItsArrays(OfSmallLlama):
    source = type("Shares", (Broken,), {"tensor_type": Shared})()


class Padded(FileTensor):
    def read(self, rows: Rows = ...) -> Any:
        stored = self.file.read_bytes()[self.begin : self.end].ljust(self.nbytes, b"\0")
        return np.frombuffer(stored, np.float32).reshape(self.shape)[rows].copy()


class TestPadsWhatIsMissing(OfSmallLlama):
    source = type("Pads", (Broken,), {"tensor_type": Padded})()


class Halves(FileTensor):
    @property
    def scheme(self) -> Scheme:
        return Scheme(16, "float16")


class TestKeepsTooLittle(OfSmallLlama):
    source = type("Halves", (Broken,), {"tensor_type": Halves})()


class Ones(FileTensor):
    @property
    def scheme(self) -> Scheme:
        return Scheme(8, "float32", group=32, zero=128)

    def read_codes(self, rows: Rows = ...) -> Codes:
        codes = np.ones_like(self.read(rows), np.uint8)
        groups = self.scheme.groups(codes.shape[1])
        return Codes(codes, (np.ones((len(codes), groups), np.float32),))


class TestHasOtherCodes(OfSmallLlama):
    source = type("Ones", (Broken,), {"tensor_type": Ones})()


class Narrow(Ones):
    def read_codes(self, rows: Rows = ...) -> Codes:
        read = super().read_codes(rows)
        return Codes(read.codes, (read.factors[0].astype(np.float16),))


class TestHasNarrowScales(OfSmallLlama):
    source = type("Narrow", (Broken,), {"tensor_type": Narrow})()
