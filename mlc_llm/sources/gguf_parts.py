"""A GGUF model in one file, or split into several: ``NAME-00001-of-00003.gguf`` and so on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.errors import ConversionError
from mlc_llm.sources.gguf_file import GGUFEntry, GGUFHeader, read_header
from mlc_llm.weights.paths import is_file, listed, shown_name

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_PARTS = 4096
"""Files of a split model; published ones have some 20."""


@dataclass(frozen=True)
class GGUFModel:
    """A model in GGUF files.

    Args:
        path: its file, or the first one.
        metadata: its settings, which the first file has.
        tensors: the file and the entry of each tensor by its name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, tuple[Path, GGUFEntry]]


def read_model(path: Path) -> GGUFModel:
    """Read the headers of a model's files.

    Args:
        path: its file, or any one of them.

    Raises:
        ConversionError: a file is missing or damaged, or the files do not belong together.
    """
    headers = [read_header(part) for part in model_parts(path)]
    _check_split(headers)
    tensors: dict[str, tuple[Path, GGUFEntry]] = {}
    for header in headers:
        for name, entry in header.tensors.items():
            if name in tensors:
                raise ConversionError(
                    f"{shown_name(name)} is both in {tensors[name][0]} and in {header.path}.",
                    code="checkpoint-damaged",
                )
            tensors[name] = (header.path, entry)
    first = headers[0]
    total = first.metadata.get("split.tensors.count")
    if len(headers) > 1 and total is not None and total != len(tensors):
        raise ConversionError(
            f"The files of {first.path} hold {len(tensors)} tensors, and it says that they have "
            f"{total}. Fetch them again.",
            code="checkpoint-incomplete",
        )
    return GGUFModel(first.path, first.metadata, tensors)


def find_model(folder: Path) -> Path | None:
    """The model that a folder holds: its GGUF file, or the first of a split one; None without one.

    Raises:
        ConversionError: it holds several.
    """
    found = sorted(path for path in folder.glob("*.gguf") if is_file(path, ConversionError))
    firsts = [path for path in found if _number(path) in (None, 1)]
    # A projector of images or sound lies beside the model that it belongs to.
    models = [path for path in firsts if not path.name.startswith("mmproj")]
    if len(models) > 1:
        raise ConversionError(
            f"{folder} holds several GGUF models: {listed([path.name for path in models])}. Name "
            "one of them.",
            code="source-ambiguous",
        )
    return models[0] if models else found[0] if found and not firsts else None


def _number(path: Path) -> int | None:
    """Which of several files this is, from 1; None where there is one file."""
    part = _PART.fullmatch(path.name)
    return int(part["number"]) if part else None


def model_parts(path: Path) -> list[Path]:
    """All files of the model that a file belongs to, the first one first.

    Raises:
        ConversionError: one is missing, or the name cannot be that of a part.
    """
    part = _PART.fullmatch(path.name)
    if part is None:
        return [path]
    count = int(part["count"])
    if not 1 <= int(part["number"]) <= count <= _MOST_PARTS:
        raise ConversionError(
            f"{shown_name(path)} is file {int(part['number'])} of {count} by its name: that cannot "
            "be.",
            code="checkpoint-damaged",
        )
    names = [f"{part['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    missing = [name for name in names if not is_file(path.parent / name, ConversionError)]
    if missing:
        raise ConversionError(
            f"{path.parent} lacks {listed(missing)}, which {path.name} needs. Fetch the model's "
            "files again.",
            code="checkpoint-incomplete",
        )
    return [path.parent / name for name in names]


def _check_split(headers: list[GGUFHeader]) -> None:
    """Check that files say of themselves what their names say."""
    for number, header in enumerate(headers):
        said = (header.metadata.get("split.no", number), header.metadata.get("split.count", None))
        if said[1] in (None, 0) and len(headers) == 1:
            continue
        if said[1] != len(headers) or said[0] != number:
            raise ConversionError(
                f"{header.path} says that it is file {_from_one(said[0])} of {said[1]}, not "
                f"{number + 1} of {len(headers)}. Give split files the names that they were made "
                "with: NAME-00001-of-00002.gguf and so on.",
                code="checkpoint-incomplete",
            )


def _from_one(number: Any) -> Any:
    return number + 1 if isinstance(number, int) else number
