"""Rotary position embedding: from a model's configuration to the angles by which its heads turn.

Plain RoPE (Su et al., 2021, arXiv:2104.09864) turns pair i of a head by ``theta ** (-2 i / d)`` per
position, d being the number of elements that turn. The other types change these frequencies so
that a model can read more positions than it was first trained on:

``default``
    Plain RoPE.
``linear``
    All frequencies are divided by ``factor``: position interpolation (Chen et al., 2023,
    arXiv:2306.15595).
``dynamic``
    Theta grows with the length: "dynamic NTK", first published on Reddit by bloc97 and emozilla
    and described by Peng et al. (arXiv:2309.00071).
``llama3``
    Low frequencies are divided by ``factor``, high ones are kept, those between are blended
    (Llama 3.1, Grattafiori et al., 2024, arXiv:2407.21783).
``yarn``
    The same with other limits, and sine and cosine are multiplied by a factor (Peng et al., 2023,
    arXiv:2309.00071).
``longrope``, in old files ``su``
    Every frequency has a divisor of its own, one for short contexts and another for long ones, and
    sine and cosine are multiplied by a factor (Ding et al., 2024, arXiv:2402.13753).
``proportional``
    Frequencies as of a head that turns as a whole, but only the first pairs turn (Gemma 4).

In ``dynamic`` and ``longrope`` the frequencies depend on a length. Transformers takes the length of
the sequence at hand; so when a sequence grows past a limit, the keys that are already in the cache
were turned by other angles than the new ones. Here a key never changes with what comes later: the
length is the context window that the model is loaded for, whatever part of it a sequence fills.

- ``dynamic``: theta is that of a sequence as long as the window where the window is larger than
  the model's ``max_position_embeddings``. Otherwise RoPE is plain.
- ``longrope``: the divisors are ``long_factor`` where the window is larger than
  ``original_max_position_embeddings``. Otherwise they are ``short_factor``.

Without a window it is the model's own ``max_position_embeddings``. Where :func:`depends_on_window`,
code that was compiled for one window is wrong for another.

The arithmetic is float32 and rounds where transformers 5 does, so that both give the same numbers
to the last bit or two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlc_llm.plugin import Rope
from mlc_llm.shown import shown

_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = float(np.finfo(np.float32).max)
_FASTEST = _LARGEST / 2**32
"""With it the angle of the last position that an int32 holds is still a number."""
_WIDEST_HEAD = 1 << 16
"""Elements of a head; the widest that are published have 576."""
_LENGTH = "max_position_embeddings"


def rope(
    head_dim: int,
    theta: float,
    scaling: Mapping[str, Any] | None = None,
    *,
    window: int | None = None,
    max_positions: int | None = None,
    partial_rotary_factor: float | None = None,
    interleaved: bool = False,
) -> Rope:
    """The rotary position embedding that a configuration describes.

    Args:
        head_dim: elements of a head of queries and keys.
        theta: base of the frequencies, ``rope_theta`` in Hugging Face's files. It counts even
            where ``scaling`` has a ``rope_theta``.
        scaling: Hugging Face's ``rope_scaling`` or ``rope_parameters``, its type under
            ``rope_type`` or ``type``; None for plain RoPE. Where a file has an object for each
            kind of layer, this is one of them. A field that is None counts as left out, and
            fields that the type does not use are ignored. An
            ``original_max_position_embeddings`` that stands outside the object, as in Phi-3's
            files, must be put into it.
        window: positions of the context window that the model is loaded for; None for
            ``max_positions``.
        max_positions: the model's ``max_position_embeddings``; needed by ``dynamic``, and by
            ``yarn`` and ``longrope`` where fields that follow from it are left out.
        partial_rotary_factor: the part of a head that turns, for files that say so outside the
            object (for GPT-NeoX's ``rotary_pct``, and for GPT-J's ``rotary_dim`` divided by
            ``head_dim``). A ``partial_rotary_factor`` in ``scaling`` takes precedence.
        interleaved: how elements are paired, see :class:`~mlc_llm.plugin.Rope`.

    Returns:
        The frequencies, rounded to float32, and the factor of sine and cosine. Pairs that
        ``proportional`` leaves as they are have the frequency 0.

    Raises:
        ValueError: the type is unknown, or a field is missing or wrong or asks for something that
            is not implemented.
    """
    fields = _fields(scaling)
    if not isinstance(head_dim, int) or not 2 <= head_dim <= _WIDEST_HEAD or head_dim % 2:
        raise ValueError(
            f"head_dim must be an even number from 2 to {_WIDEST_HEAD}, not {shown(head_dim)}"
        )
    if partial_rotary_factor is not None:
        fields.setdefault("partial_rotary_factor", partial_rotary_factor)
    request = _Request(
        kind=_kind(fields),
        fields=fields,
        head_dim=head_dim,
        theta=_number("theta", theta, above=1),
        window=None if window is None else _positions("window", window),
        max_positions=None if max_positions is None else _positions(_LENGTH, max_positions),
    )
    # A wavelength beyond float32's range is the frequency 0.
    with np.errstate(over="ignore", divide="ignore"):
        frequencies, factor = _TYPES[request.kind](request)
    fastest = float(np.abs(frequencies).max())
    if not fastest <= _FASTEST:
        raise ValueError(
            f"RoPE type {request.kind!r} turns a head by {fastest:g} per position, which is beyond "
            "float32: its factors must be larger"
        )
    return Rope(tuple(frequencies.tolist()), factor, interleaved)


def depends_on_window(scaling: Mapping[str, Any] | None) -> bool:
    """Whether :func:`rope` may give other frequencies for another window.

    Args:
        scaling: as :func:`rope` takes it.

    Raises:
        ValueError: the type is unknown.
    """
    return _TYPES[_kind(_fields(scaling))] in (_dynamic, _longrope)


def _fields(scaling: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of a scaling object that have a value."""
    if scaling is None:
        return {}
    if not isinstance(scaling, Mapping):
        raise ValueError(f"RoPE's scaling must be an object, not {shown(scaling)}")
    nested = [str(name) for name, value in scaling.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(
            f"RoPE's scaling must be the object of one kind of layer, not one that holds several: "
            f"{', '.join(nested)}"
        )
    return {name: value for name, value in scaling.items() if value is not None}


_OVERRIDES = {"alpha": "HunYuan", "short_mscale": "PhiMoE", "long_mscale": "PhiMoE"}
"""Fields by which a model's own code departs from the type that its file names."""


def _kind(fields: Mapping[str, Any]) -> str:
    kind = fields.get("rope_type", fields.get("type"))
    if kind is None and "factor" in fields:
        raise ValueError(f"rope_type must be given with a factor; known: {', '.join(KNOWN_TYPES)}")
    kind = "default" if kind is None else kind
    if kind not in KNOWN_TYPES:
        raise ValueError(
            f"RoPE type {shown(kind)} is not supported; it must be one of {', '.join(KNOWN_TYPES)}"
        )
    for name, model in _OVERRIDES.items():
        if name in fields:
            raise ValueError(f"{name} must be left out: RoPE as {model} has it is not supported")
    return kind


def _number(name: str, value: Any, above: float = 0) -> float:
    """A number above a limit, and one that float32 can hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not above < value or not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"{name} must be a number above {above}, not {shown(value)}")
    return value


def _positions(name: str, value: Any) -> int:
    """A number of positions, which kernels hold in an int32."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ValueError(f"{name} must be a whole number from 1 to {2**31 - 1}, not {shown(value)}")
    return value


@dataclass(frozen=True)
class _Request:
    """What the formula of a type is given; a field is checked when the formula asks for it."""

    kind: str
    fields: Mapping[str, Any]
    head_dim: int
    theta: float
    window: int | None
    max_positions: int | None

    def number(self, name: str, default: float | None = None, above: float = 0) -> float:
        if default is not None and name not in self.fields:
            return default
        return _number(name, self._given(name), above)

    def numbers(self, name: str, length: int) -> np.ndarray:
        """A list of ``length`` numbers, as float32."""
        values = self._given(name)
        if not isinstance(values, list | tuple):
            raise ValueError(f"{name} must be a list of numbers, not {shown(values)}")
        if len(values) != length:
            raise ValueError(
                f"{name} must have {length} numbers, one for each pair that turns, not "
                f"{len(values)}"
            )
        checked = [_number(f"{name}[{i}]", value) for i, value in enumerate(values)]
        return np.array(checked, np.float32)

    def flag(self, name: str, default: bool) -> bool:
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {shown(value)}")
        return value

    def _given(self, name: str) -> Any:
        if name not in self.fields:
            given = ", ".join(map(str, self.fields)) or "nothing"
            raise ValueError(f"{name} must be given for RoPE type {self.kind!r}; given: {given}")
        return self.fields[name]

    @property
    def part(self) -> float:
        """The part of a head that turns."""
        part = self.number("partial_rotary_factor", 1.0)
        if part > 1:
            raise ValueError(f"partial_rotary_factor must be at most 1, not {shown(part)}")
        return part

    @property
    def turning(self) -> int:
        """Elements of a head that turn."""
        turning = int(self.head_dim * self.part)
        if turning < 2 or turning % 2:
            raise ValueError(
                f"head_dim ({self.head_dim}) and partial_rotary_factor ({self.part}) must give an "
                f"even number of elements that turn, not {turning}"
            )
        return turning

    @property
    def model_length(self) -> int:
        """Positions that the model says it can read."""
        if self.max_positions is None:
            raise ValueError(f"{_LENGTH} must be given for RoPE type {self.kind!r}")
        return self.max_positions

    @property
    def original(self) -> float:
        """Positions that the model could read before its RoPE was changed."""
        return self.number("original_max_position_embeddings", above=1)

    @property
    def stretch(self) -> float:
        """``factor``, or else how many times as long as the original the model's length is."""
        if "factor" in self.fields:
            return self.number("factor")
        original = self.original
        return self.model_length / original


_Result = tuple[np.ndarray, float]


def _spacing(theta: float, turning: int, of: int | None = None) -> np.ndarray:
    """Positions that each pair takes to turn by one radian: ``theta ** (2 i / of)`` in float32.

    Args:
        theta: base.
        turning: elements that turn.
        of: elements over which the frequencies spread; None for those that turn.
    """
    exponent = np.arange(0, turning, 2, dtype=np.float32) / np.float32(of or turning)
    # In float64 from float32 numbers, so that it is rounded once, on every machine alike.
    power = np.power(np.float64(np.float32(theta)), exponent.astype(np.float64))
    return power.astype(np.float32)


def _default(request: _Request) -> _Result:
    return 1 / _spacing(request.theta, request.turning), 1.0


def _linear(request: _Request) -> _Result:
    return _default(request)[0] / np.float32(request.number("factor")), 1.0


def _proportional(request: _Request) -> _Result:
    pairs = int(request.part * request.head_dim / 2)
    frequencies = np.zeros(request.head_dim // 2, np.float32)
    frequencies[:pairs] = 1 / _spacing(request.theta, 2 * pairs, request.head_dim)
    return frequencies / np.float32(request.number("factor", 1.0)), 1.0


def _dynamic(request: _Request) -> _Result:
    """A theta by which the lowest frequency is as if divided by ``divisor``, the highest kept."""
    factor, length, turning = request.number("factor"), request.model_length, request.turning
    window = length if request.window is None else request.window
    if window <= length:
        return _default(request)
    if turning == 2:
        raise ValueError("More than 2 elements of a head must turn for RoPE type 'dynamic'")
    divisor = factor * window / length - (factor - 1)
    theta = request.theta * divisor ** (turning / (turning - 2))
    return 1 / _spacing(theta, turning), 1.0


def _llama3(request: _Request) -> _Result:
    """Blend by how many waves of a pair fit into the original length."""
    factor, original = np.float32(request.number("factor")), np.float32(request.original)
    low, high = request.number("low_freq_factor"), request.number("high_freq_factor")
    if high <= low:
        raise ValueError(f"high_freq_factor must be above low_freq_factor ({low}), not {high}")
    frequencies, _ = _default(request)
    waves = original / (np.float32(2 * math.pi) / frequencies)
    keep = np.clip((waves - np.float32(low)) / np.float32(high - low), 0, 1)
    return (1 - keep) * frequencies / factor + keep * frequencies, 1.0


def _yarn(request: _Request) -> _Result:
    """Blend by a pair's index: from all kept to all divided, linear between two limits."""
    stretch, spacing = request.stretch, _spacing(request.theta, request.turning)
    low, high = _yarn_limits(request)
    index = np.arange(len(spacing), dtype=np.float32)
    divide = np.clip((index - np.float32(low)) / np.float32(high - low), 0, 1)
    keep = 1 - divide
    divided = 1 / (np.float32(stretch) * spacing)
    return divided * (1 - keep) + 1 / spacing * keep, _yarn_factor(request, stretch)


def _yarn_limits(request: _Request) -> tuple[float, float]:
    """Indices of the pairs that turn ``beta_fast`` and ``beta_slow`` times in the original length.

    Without ``truncate: false`` they are rounded outwards to whole numbers.
    """
    given = "original_max_position_embeddings" in request.fields
    original = request.original if given else request.model_length

    def index(turns: float) -> float:
        spacing = original / (turns * 2 * math.pi)
        return request.turning * math.log(spacing) / (2 * math.log(request.theta))

    low, high = index(request.number("beta_fast", 32)), index(request.number("beta_slow", 1))
    if request.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    # The bound is in elements and not in pairs, as in the authors' own code.
    low, high = max(low, 0), min(high, request.turning - 1)
    return low, high if high != low else high + 0.001


def _yarn_factor(request: _Request, stretch: float) -> float:
    """``attention_factor``, or what follows from how many times longer the model's length is."""
    if "attention_factor" in request.fields:
        return float(request.number("attention_factor"))

    def growth(weight: float) -> float:
        return 0.1 * weight * math.log(stretch) + 1 if stretch > 1 else 1.0

    # Either alone counts for nothing, and so does a zero.
    if request.fields.get("mscale") and request.fields.get("mscale_all_dim"):
        return growth(request.number("mscale")) / growth(request.number("mscale_all_dim"))
    return growth(1.0)


def _longrope(request: _Request) -> _Result:
    original = request.original
    spacing = _spacing(request.theta, request.turning)
    # Both are checked, whichever counts.
    short = request.numbers("short_factor", len(spacing))
    long = request.numbers("long_factor", len(spacing))
    window = request.model_length if request.window is None else request.window
    frequencies = 1 / ((long if window > original else short) * spacing)
    if "attention_factor" in request.fields:
        return frequencies, float(request.number("attention_factor"))
    stretch = request.stretch
    growth = 1 + math.log(stretch) / math.log(original) if stretch > 1 else 1.0
    return frequencies, math.sqrt(growth)


_TYPES: dict[str, Callable[[_Request], _Result]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,
    "proportional": _proportional,
}

KNOWN_TYPES = tuple(_TYPES)
"""The values of ``rope_type`` that :func:`rope` knows."""
