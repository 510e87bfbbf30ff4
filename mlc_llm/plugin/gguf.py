"""What the GGUF files of a family are called, as data: an architecture's ``gguf``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

OrderRows = Callable[[Any], Any]
"""Gives the rows of an array in another order."""
MakeValues = Callable[[Any], Any]
"""Makes a float32 array of another of the same shape."""
MakeField = Callable[[Mapping[str, Any], Collection[str]], Any]
"""Makes a field of ``config.json`` of the fields found so far and the names of all tensors."""


@dataclass(frozen=True)
class GGUFFamily:
    """How GGUF files name and order what a family's checkpoints have.

    Names of tensors are given without ``.weight`` and ``.bias``, which both have. A ``*`` stands
    for the number of a layer.

    Args:
        architecture: the files' ``general.architecture``.
        tensors: names in the checkpoint by the names in a file.
        settings: fields of ``config.json`` by the keys of a file's metadata, without the
            architecture's name before them; beside those that most families share
            (:data:`mlc_llm.sources.gguf_config.SETTINGS`).
        implied: by fields of ``config.json`` that no key says: what makes them. One that is None is
            left out.
        orders: by names in a file: from the architecture's config to the function that orders the
            rows of such a tensor as the checkpoint does.
        values: by names in a file: functions that make the checkpoint's values of such a tensor's,
            which must be floats, as norms are.
        ignored: tensors of a file that are known and not needed.

    See https://github.com/ggml-org/ggml/blob/master/docs/gguf.md for both kinds of names.
    """

    architecture: str
    tensors: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    implied: Mapping[str, MakeField] = field(default_factory=dict)
    orders: Mapping[str, Callable[[Any], OrderRows]] = field(default_factory=dict)
    values: Mapping[str, MakeValues] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
