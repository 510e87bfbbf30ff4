"""A model folder as a conversion will make it, before its weights are there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile
from mlc_llm.convert.output import SHARD_PREFIX
from mlc_llm.convert.plan import PlannedWeight
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord

_SHARD = f"{SHARD_PREFIX}0.bin"


def planned_folder(folder: Path, weights: Iterable[PlannedWeight]) -> ModelFolder:
    """A folder whose configuration and tokenizer are written, with the tensors that it will have.

    The tensors have names, shapes and sizes, and cannot be read.

    Args:
        folder: the folder.
        weights: what will be written into it.
    """
    config = ModelFile.load(folder / CHAT_CONFIG_FILE)
    tensors = tuple(_records(weights))
    size = sum(tensor.nbytes for tensor in tensors)
    return ModelFolder(folder, config, Manifest((ShardRecord(_SHARD, size, None, tensors),)))


def _records(weights: Iterable[PlannedWeight]) -> Iterator[TensorRecord]:
    """The tensors of all weights, one after the other in a single shard."""
    offset = 0
    for tensor in (tensor for planned in weights for tensor in planned.tensors):
        shape = tuple(map(int, tensor.shape))
        nbytes = math.prod(shape) * np.dtype(tensor.dtype).itemsize
        yield TensorRecord(tensor.name, shape, tensor.dtype, _SHARD, offset, nbytes)
        offset += nbytes
