"""From a model folder's tensors to what the compiled kernels read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_llm.errors import LibraryError, ModelFolderError
from mlc_llm.plugin.scheme import StoredTensor
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.device_memory import WeightMemory, weight_memory
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.metadata import RepackStep
from mlc_llm.weights.folder import ModelFolder

if TYPE_CHECKING:
    import tvm

_SHOWN = 5
"""How many differences an error message lists."""


def check_parameters(
    wanted: Sequence[StoredTensor], folder: ModelFolder, reader: str
) -> dict[str, int]:
    """Check that a folder holds just the tensors that are read from it.

    Args:
        wanted: these tensors.
        folder: the model folder.
        reader: what reads them, for the message.

    Returns:
        The sizes of the symbolic dimensions, by name.

    Raises:
        ModelFolderError: a name, a shape or a dtype differs.
    """
    tensors = folder.manifest.tensors
    names = {parameter.name for parameter in wanted}
    problems = [f"{name} is missing" for name in names if name not in tensors]
    problems += [f"{name} is not read" for name in tensors if name not in names]
    sizes: dict[str, int] = {}
    for parameter in wanted:
        record = tensors.get(parameter.name)
        if record is not None:
            problems += _differences(parameter, tuple(record.shape), record.dtype, sizes)
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ModelFolderError(
            f"The weights in {folder.path} do not fit {reader}: "
            f"{'; '.join(sorted(problems)[:_SHOWN])}{more}. Convert the model again, or fetch it "
            "again.",
            code="weights-mismatch",
        )
    _check_vocabulary(sizes, folder)
    return sizes


def _differences(
    parameter: StoredTensor, shape: tuple[int, ...], dtype: str, sizes: dict[str, int]
) -> list[str]:
    """What differs between a stored tensor and the one that is wanted; binds symbolic sizes."""
    found = []
    if dtype != parameter.dtype:
        found.append(f"{parameter.name} is {dtype}, not {parameter.dtype}")
    expected = tuple(
        size if isinstance(size, int) else sizes.get(size, size) for size in parameter.shape
    )
    matches = len(expected) == len(shape) and all(
        isinstance(size, str) or size == there for size, there in zip(expected, shape, strict=True)
    )
    if not matches:
        found.append(f"{parameter.name} has the shape {_text(shape)}, not {_text(expected)}")
        return found
    sizes.update({s: t for s, t in zip(expected, shape, strict=True) if isinstance(s, str)})
    return found


def _text(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"


def _check_vocabulary(sizes: Mapping[str, int], folder: ModelFolder) -> None:
    rows, declared = sizes.get("vocab_size"), folder.config.vocab_size
    if rows is not None and rows < declared:
        raise ModelFolderError(
            f"The weights in {folder.path} have {rows} rows of vocabulary, and the folder's "
            f"configuration says vocab_size={declared}. Write it again with mlc_llm gen_config, or "
            "fetch the model again.",
            code="weights-mismatch",
        )


def load_parameters(
    library: CompiledLibrary,
    folder: ModelFolder,
    device: tvm.runtime.Device,
    stop: Stop | None = None,
) -> Any:
    """Upload the parameters, repacked for the kernels; runs in the engine thread.

    Each stored tensor is let go of as soon as what is made of it exists, so that the peak is all
    of the result and one step's inputs.

    Args:
        library: the library, whose functions repack them.
        folder: where the stored tensors are.
        device: where they go.
        stop: looked at between the steps; None if loading cannot be interrupted.

    Returns:
        The array of tensors that the library's functions take as ``params``.

    Raises:
        LibraryError: a repacking function is missing, or does not say what it makes.
        ModelFolderError: a tensor cannot be read.
        CancelledError: the request was asked to stop.
    """
    import tvm_ffi

    memory = weight_memory(device)
    parameters: list[Any] = []
    for step in library.metadata.repack:
        if stop is not None:
            stop.check()
        stored = [folder.read(name) for name in step.inputs]
        if step.function is None:
            parameters += map(memory.keep, stored)
        else:
            parameters += _repacked(library, step, list(map(memory.lend, stored)), memory)
        del stored
        for name in step.inputs:
            folder.forget(name)
    device.sync()
    return tvm_ffi.convert(parameters)


def _repacked(
    library: CompiledLibrary, step: RepackStep, stored: list[Any], memory: WeightMemory
) -> list[Any]:
    """What a step makes of its inputs."""
    shapes = library.function(f"{step.function}_shapes")(*stored)
    if not len(shapes) == len(step.dtypes) == len(step.outputs):
        raise LibraryError(
            f"The library's function {step.function!r} makes {len(shapes)} tensors of "
            f"{', '.join(step.inputs)}, and its metadata lists {len(step.outputs)} of "
            f"{len(step.dtypes)} dtypes. Compile the library again.",
            code="library-damaged",
        )
    made = [memory.empty(shape, dtype) for shape, dtype in zip(shapes, step.dtypes, strict=True)]
    library.function(str(step.function))(*stored, *made)
    return made
