"""The index of a checkpoint in several files: ``model.safetensors.index.json`` and the like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from mlc_llm.errors import ConversionError
from mlc_llm.files import read_json_object
from mlc_llm.plugin import SourceTensor
from mlc_llm.weights.paths import is_file, listed, shown_name


def read_index(
    index: Path, read: Callable[[Path], Mapping[str, SourceTensor]]
) -> dict[str, SourceTensor]:
    """The tensors of the files that an index lists.

    Args:
        index: the index: a JSON object whose ``weight_map`` has the file of each tensor.
        read: gives the tensors of one file by their names.

    Raises:
        ConversionError: the index is malformed, or a file or a tensor that it lists is missing.
    """
    weight_map = read_json_object(index, ConversionError).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and PurePath(file).name == file for file in weight_map.values()
    ):
        raise ConversionError(
            f"{index} has no weight_map from tensors to files beside it.", code="checkpoint-damaged"
        )
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not is_file(index.parent / file, ConversionError)]
    if missing:
        raise ConversionError(
            f"{index.parent} lacks {listed(missing)}, which {index.name} names. Fetch the "
            "checkpoint again.",
            code="checkpoint-incomplete",
        )
    headers = {file: read(index.parent / file) for file in files}
    tensors = {}
    for name, file in weight_map.items():
        if name not in headers[file]:
            raise ConversionError(
                f"{index} says that {shown_name(name)} is in {file}, and it is not.",
                code="checkpoint-incomplete",
            )
        tensors[name] = headers[file][name]
    return tensors
