"""``convert_weight``: into a new folder, and over weights that are there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from fuzz.injection.program import Unsound, mlc_llm
from fuzz.injection.scenario import Scenario
from mlc_llm.convert import convert_weight
from mlc_llm.errors import MLCError
from mlc_llm.testing.model_folder import make_checkpoint
from mlc_llm.weights.folder import manifest_path, read_manifest
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shards import Shards

_SIZES = {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 768}
"""Large enough that the work takes as long as the start."""


def whole_weights(folder: Path) -> bytes | None:
    """The manifest of a folder whose weights are whole, checksums and all; None for no weights.

    Raises:
        Unsound: they are not whole.
    """
    try:
        path = manifest_path(folder)
    except MLCError:
        return None
    try:
        Shards(folder, read_manifest(folder)).verify()
    except MLCError as error:
        raise Unsound(f"half of a model is there: {error}") from error
    return path.read_bytes()


class Converting(Scenario):
    """A conversion into a folder that does not exist yet."""

    name = "convert_weight"
    rounds = 12
    quantization = "q4f16_1"

    @cached_property
    def _source(self) -> Path:
        source = self.inputs / "checkpoint"
        sizes = {**_SIZES, "num_attention_heads": 8, "num_key_value_heads": 4}
        return source if source.exists() else make_checkpoint(source, **sizes)

    @cached_property
    def _expected(self) -> Path:
        """The same, converted in peace."""
        folder = self.inputs / f"expected-{self.quantization}"
        return convert_weight(self._source, self.quantization, folder)

    def command(self, work: Path) -> list[str]:
        options = ["--quantization", self.quantization]
        return mlc_llm("convert_weight", self._source, *options, "-o", work / "model")

    def check(self, work: Path) -> None:
        whole_weights(work / "model")

    def check_done(self, work: Path) -> None:
        if whole_weights(work / "model") is None:
            raise Unsound("there are no weights")
        _require_equal(work / "model", self._expected)


class ConvertingAgain(Converting):
    """A conversion into a folder that has other weights, which are there until the new ones are."""

    name = "convert_weight again"
    rounds = 8

    @cached_property
    def _older(self) -> Path:
        return convert_weight(self._source, "q0f16", self.inputs / "older")

    def command(self, work: Path) -> list[str]:
        if not (work / "model").exists():
            shutil.copytree(self._older, work / "model")
        return super().command(work)

    def check(self, work: Path) -> None:
        found = whole_weights(work / "model")
        if found is None:
            raise Unsound("the older weights are gone")


def _require_equal(folder: Path, expected: Path) -> None:
    """Compare what two folders hold, whatever the shards are called; no litter may be there."""
    contents: list[Mapping[str, bytes]] = []
    for place in (folder, expected):
        manifest = read_manifest(place)
        shards = Shards(place, manifest)
        contents.append({n: shards.read(t).tobytes() for n, t in manifest.tensors.items()})
        wanted = {MANIFEST_FILE, *(shard.file for shard in manifest.shards)}
        if litter := {path.name for path in place.iterdir()} - wanted:
            raise Unsound(f"files were left: {sorted(litter)}")
    if contents[0] != contents[1]:
        raise Unsound("the weights are not those of a conversion in peace")
