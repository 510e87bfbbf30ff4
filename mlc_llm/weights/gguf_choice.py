"""Which of several GGUF files of one model is taken.

The rule: of the types in :data:`PREFERRED` the first one whose file takes at most three quarters of
the machine's memory. So it is Q4_K_M wherever that is there and fits. What counts is all of the
memory, not what happens to be free, so that the same machine always takes the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

PREFERRED = (
    *("Q4_K_M", "Q4_K_L", "Q4_K_XL", "Q4_K_S", "Q4_K", "Q4_1", "Q4_0", "MXFP4"),
    *("Q5_K_M", "Q5_K_S", "Q5_K", "Q5_1", "Q5_0", "Q6_K", "Q8_0", "IQ4_NL", "IQ4_XS"),
    *("BF16", "F16", "F32"),
)
"""Types of files, the best first: 4 bits, then what loses less and is larger. IQ4 comes late, for
it is read as 8 bits."""

SHARE = Fraction(3, 4)
"""How much of the memory a file may take; the conversation and other programs need the rest."""

_TYPE = re.compile(
    r"(?<![A-Z0-9])(B?F16|FP16|F32|FP32|MXFP4|I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d)(?![A-Z0-9])"
)
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_NO_MODEL = re.compile(r"(^|[-_.])(mmproj|imatrix)([-_.]|$)", re.IGNORECASE)
"""Files that go with a model: the projector of a vision model, and statistics for quantising."""


@dataclass(frozen=True)
class GGUFModel:
    """A model that is one GGUF file, or several parts of one.

    Args:
        parts: the files' paths, in their order.
        nbytes: bytes of all of them.
        complete: whether all parts are there.
    """

    parts: tuple[str, ...]
    nbytes: int
    complete: bool = True

    @property
    def type(self) -> str:
        """The type that the name gives, such as ``Q4_K_M``; empty where it gives none."""
        stem = self.parts[0].rpartition("/")[2].upper().removesuffix(".GGUF")
        found = _TYPE.findall(stem)
        return found[-1].replace("FP16", "F16").replace("FP32", "F32") if found else ""


def gguf_models(files: Iterable[tuple[str, int]]) -> list[GGUFModel]:
    """The GGUF models among files, the parts of split ones put together.

    Args:
        files: the files' paths, with ``/`` between folders, and their sizes in bytes.
    """
    groups: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for name, nbytes in sorted(files):
        base = name.rpartition("/")[2]
        if not base.lower().endswith(".gguf") or _NO_MODEL.search(base[: -len(".gguf")]):
            continue
        part = _PART.fullmatch(name)
        key = (part[1], int(part[3])) if part else (name, 1)
        groups.setdefault(key, []).append((name, nbytes))
    return [
        GGUFModel(
            tuple(name for name, _ in parts),
            sum(nbytes for _, nbytes in parts),
            len(parts) == count,
        )
        for (_, count), parts in groups.items()
    ]


def choose(models: Sequence[GGUFModel], memory: int | None) -> GGUFModel:
    """The model that the rule takes; where none fits, the smallest.

    Models of types that are not in :data:`PREFERRED` are taken only where there are no others.

    Args:
        models: one model or more.
        memory: bytes of memory that the machine has; None where that is not known.
    """
    known = [model for model in models if model.type in PREFERRED]
    ranked = sorted(known, key=lambda model: PREFERRED.index(model.type)) or list(models)
    for model in ranked:
        if memory is None or model.nbytes <= memory * SHARE:
            return model
    return min(ranked, key=lambda model: model.nbytes)
