"""Every layer of :mod:`mlc_llm.model.layers` with random parameters, and what NumPy computes.

For the authors of devices: :func:`check_layer` compiles a case, runs it, and compares.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlc_llm.model import op
from mlc_llm.model.layers import (
    Activation,
    ActivationName,
    Embedding,
    GatedActivation,
    LayerNorm,
    Linear,
    RMSNorm,
    soft_cap,
)
from mlc_llm.model.module import Module, Parameter, named_parameters
from mlc_llm.plugin import AttentionSpec, Device, Plan
from mlc_llm.testing.module_runner import Array, Values, run_module, store

Expected = Callable[..., Array]
"""From the parameters by name and the inputs to the result, in float64."""


@dataclass(frozen=True)
class LayerCase:
    """A layer and its definition.

    Args:
        make: makes the layer.
        inputs: shapes of the inputs without the first axis, which is the tokens.
        expected: the definition.
        method: what is called, of the lowered layer.
        table: rows of a table that the inputs are indices of; None where they are floats.
    """

    make: Callable[[], Module]
    inputs: Mapping[str, tuple[int, ...]]
    expected: Expected
    method: Callable[[Any], Callable[..., Any]] = lambda layer: layer
    table: int | None = None


def check_layer(
    case: LayerCase,
    device: Device,
    plan: Plan,
    folder: Path,
    *,
    tokens: int = 5,
    tolerance: float = 1e-5,
    opt: Mapping[str, str] | None = None,
    rows: int | str = "n",
) -> None:
    """Compile a case for a device and compare what it computes with its definition.

    Args:
        case: the layer.
        device: the device; its first adapter is used.
        plan: how the parameters are stored; the definition takes what comes back from it.
        folder: an empty folder for the library.
        tokens: size of the first axis of the inputs.
        tolerance: how far an element may be off, in standard deviations of the result.
        opt: compilation options.
        rows: what the compiler knows of the number of tokens.
    """
    random, layer = np.random.default_rng(0), case.make()
    sizes = {n: tuple(map(int, p.shape)) for n, p in named_parameters(layer).items()}
    stored = store(layer, {name: _spread(random, size) for name, size in sizes.items()}, plan)
    inputs = {
        name: random.standard_normal((tokens, *size), np.float32)
        if case.table is None
        else random.integers(0, case.table, (tokens, *size), np.int32)
        for name, size in case.inputs.items()
    }
    # Devices compute in different dtypes: what they are given must be exact in each.
    if plan.dtype == "float16":
        inputs = {n: a.astype(np.float16).astype(a.dtype) for n, a in inputs.items()}
    exact = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in inputs.values()]
    rounded = {name: value.astype(np.float64) for name, value in stored.rounded.items()}
    wanted = case.expected(rounded, *exact)
    found = run_module(
        layer, case.method, inputs, stored.tensors, device, plan, folder, opt=opt, rows=rows
    )
    # Tables of vocabularies are padded by some devices.
    found = found[..., : wanted.shape[-1]].astype(np.float64)
    assert found.shape == wanted.shape, f"the shape is {found.shape}, not {wanted.shape}"
    assert np.isfinite(found).all(), "the result is not finite"
    error = np.abs(found - wanted).max() / wanted.std()
    assert error <= tolerance, (
        f"an element is off by {error:.2g} standard deviations; allowed are {tolerance:g}"
    )


def without_kernels(case: LayerCase) -> LayerCase:
    """The case with its layer in a class of its own, which no device has a kernel for.

    What is compiled then are the operations of the layer's forward.
    """

    def make() -> Module:
        layer = case.make()
        kind = type(layer)
        own = {
            name: lambda self, *inputs, _method=method, **more: _method(self, *inputs, **more)
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and not name.startswith("__")
        }
        layer.__class__ = type(f"Own{kind.__name__}", (kind,), own)
        return layer

    return replace(case, make=make)


def _spread(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random parameters; those of norms and biases are spread around a half, to be seen."""
    values = 0.5 * random.standard_normal(shape, np.float32)
    return values + np.float32(0.5) if len(shape) == 1 else values


# --- definitions -------------------------------------------------------------------------------


def linear(p: Values, x: Array) -> Array:
    """``x @ weight.T + bias``."""
    return x @ p["weight"].T + p.get("bias", 0.0)


def linear_added(p: Values, x: Array, add: Array) -> Array:
    """``x @ weight.T + bias + add``."""
    return linear(p, x) + add


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """See :class:`~mlc_llm.model.layers.RMSNorm`."""
    normed: Array = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * weight
    return normed


def layer_norm(x: Array, weight: Array, bias: Array | float, eps: float) -> Array:
    """See :class:`~mlc_llm.model.layers.LayerNorm`."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    normed: Array = centred / np.sqrt(variance + eps) * weight + bias
    return normed


_erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS: Mapping[ActivationName, Callable[[Array], Array]] = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}
"""Definitions of the activations."""


def _activated(name: ActivationName) -> Expected:
    return lambda _, x: ACTIVATIONS[name](x)


def _gated(name: ActivationName) -> Expected:
    def expected(_: Values, x: Array) -> Array:
        gate, up = np.split(x, 2, axis=-1)
        return ACTIVATIONS[name](gate) * up

    return expected


HEADS = AttentionSpec(query_heads=6, kv_heads=3, key_size=20, value_size=12, scale=1.0)
"""Heads of odd sizes for the norm of queries and keys."""

EPS = 1e-3
"""Large enough to be missed where it is left out."""


class _HeadNorms(Module):
    """Queries and keys with a norm each."""

    def __init__(self, unit_offset: bool = False, key_eps: float = EPS) -> None:
        self.q_norm = RMSNorm(HEADS.key_size, EPS, unit_offset=unit_offset)
        self.k_norm = RMSNorm(HEADS.key_size, key_eps, unit_offset=unit_offset)

    def forward(self, qkv: Any) -> Any:
        return self.q_norm.of_heads(qkv, HEADS, self.k_norm)


def _head_norms(offset: float, key_eps: float = EPS) -> Expected:
    def expected(p: Values, qkv: Array) -> Array:
        parts = np.split(qkv, np.cumsum(HEADS.qkv_parts)[:-1], axis=1)
        normed = [
            rms_norm(part.reshape(len(qkv), -1, HEADS.key_size), p[f"{name}.weight"] + offset, eps)
            for name, part, eps in zip(("q_norm", "k_norm"), parts, (EPS, key_eps), strict=False)
        ]
        return np.concatenate([*(n.reshape(len(qkv), -1) for n in normed), parts[2]], axis=1)

    return expected


class _Plain(Module):
    """What has no layer: parameters of its own, a softmax, a soft cap, factors."""

    def __init__(self, width: int) -> None:
        self.scale = Parameter((width,))

    def forward(self, x: Any) -> Any:
        weights = op.softmax(x * self.scale, axis=-1)
        return soft_cap(x * 3.0, 2.0) + weights * op.sum(x, axis=-1, keepdims=True)


def _plain(p: Values, x: Array) -> Array:
    e = np.exp(x * p["scale"] - (x * p["scale"]).max(axis=-1, keepdims=True))
    weights = e / e.sum(axis=-1, keepdims=True)
    return 2.0 * np.tanh(x * 1.5) + weights * x.sum(axis=-1, keepdims=True)


class _OwnLinear(Linear):
    """A layer that only derives from one that devices know: its own forward counts."""

    def forward(self, x: Any, add: Any = None) -> Any:
        return super().forward(x, add) * 2.0


class _Joined(Module):
    """A norm whose result two linear layers take, side by side."""

    def __init__(self, **more: Any) -> None:
        self.norm = RMSNorm(47, EPS)
        self.first, self.second = Linear(47, 33, **more), Linear(47, 20)

    def forward(self, x: Any) -> Any:
        return self.first.joined(self.norm(x), self.second)


def _joined(p: Values, x: Array) -> Array:
    normed = rms_norm(x, p["norm.weight"], EPS)
    first = normed @ p["first.weight"].T + p.get("first.bias", 0.0)
    return np.concatenate([first, normed @ p["second.weight"].T], axis=-1)


class _NormAdded(Module):
    """A norm whose result is multiplied, and added as well."""

    def __init__(self) -> None:
        self.norm, self.linear = RMSNorm(47, EPS), Linear(47, 47)

    def forward(self, x: Any) -> Any:
        normed = self.norm(x)
        return self.linear(normed, add=normed)


def _norm_added(p: Values, x: Array) -> Array:
    normed = rms_norm(x, p["norm.weight"], EPS)
    return normed + normed @ p["linear.weight"].T


class _Block(Module):
    """A norm, a linear layer, an activation and a second linear layer, which adds the residual."""

    def __init__(self, norm: Module, first: Linear, activation: Module, second: Linear) -> None:
        self.norm, self.first, self.activation, self.second = norm, first, activation, second

    def forward(self, x: Any) -> Any:
        return self.second(self.activation(self.first(self.norm(x))), add=x)


def _geglu_block(p: Values, x: Array) -> Array:
    normed = layer_norm(x, p["norm.weight"], p["norm.bias"], EPS)
    inner = normed @ p["first.weight"].T + p["first.bias"]
    gated = _gated("gelu_tanh")({}, inner)
    return x + gated @ p["second.weight"].T + p["second.bias"]


def _gelu_block(p: Values, x: Array) -> Array:
    normed = rms_norm(x, 1 + p["norm.weight"], EPS)
    inner = ACTIVATIONS["gelu"](normed @ p["first.weight"].T)
    return x + inner @ p["second.weight"].T


def _as_linear(p: Values, x: Array) -> Array:
    return x @ p["weight"].T


def _linear(columns: int, rows: int | tuple[int, ...], **more: Any) -> LayerCase:
    return LayerCase(lambda: Linear(columns, rows, **more), {"x": (columns,)}, linear)


def _residual(columns: int, rows: int | tuple[int, ...], *axes: int, **more: Any) -> LayerCase:
    """A linear layer that is given a residual, perhaps of more axes."""
    width = sum(rows) if isinstance(rows, tuple) else rows
    inputs = {"x": (*axes, columns), "add": (*axes, width)}
    return LayerCase(lambda: Linear(columns, rows, **more), inputs, linear_added)


CASES: Mapping[str, LayerCase] = {
    "linear": _linear(47, 33),
    "linear, whole blocks": _linear(64, 96),
    "linear with bias": _linear(47, 33, bias=True),
    "linear of parts with bias": _linear(70, (33, 17, 5), bias=True),
    "linear of its own": LayerCase(
        lambda: _OwnLinear(47, 33), {"x": (47,)}, lambda p, x: 2 * linear(p, x)
    ),
    "linear of three axes": LayerCase(lambda: Linear(40, 12, bias=True), {"x": (3, 40)}, linear),
    "linear with residual": _residual(47, 33),
    "linear of parts with bias and residual": _residual(70, (33, 17, 5), bias=True),
    "linear of three axes with residual": _residual(40, 12, 3, bias=True),
    "linear layers side by side": LayerCase(_Joined, {"x": (47,)}, _joined),
    "linear layers side by side of three axes": LayerCase(_Joined, {"x": (3, 47)}, _joined),
    "linear layers side by side, one with bias": LayerCase(
        lambda: _Joined(bias=True), {"x": (47,)}, _joined
    ),
    "a norm that is multiplied and added": LayerCase(_NormAdded, {"x": (47,)}, _norm_added),
    "embedding": LayerCase(
        lambda: Embedding(37, 45), {"ids": ()}, lambda p, ids: p["weight"][ids], table=37
    ),
    "tied head": LayerCase(
        lambda: Embedding(37, 45), {"x": (45,)}, _as_linear, lambda layer: layer.as_linear
    ),
    "RMS norm": LayerCase(
        lambda: RMSNorm(47, EPS), {"x": (47,)}, lambda p, x: rms_norm(x, p["weight"], EPS)
    ),
    "RMS norm of three axes with unit offset": LayerCase(
        lambda: RMSNorm(19, EPS, unit_offset=True),
        {"x": (3, 19)},
        lambda p, x: rms_norm(x, 1 + p["weight"], EPS),
    ),
    "RMS norm with residual": LayerCase(
        lambda: RMSNorm(47, EPS, unit_offset=True),
        {"x": (47,), "add": (47,)},
        lambda p, x, add: rms_norm(x, 1 + p["weight"], EPS) + add,
    ),
    "RMS norm of three axes with residual": LayerCase(
        lambda: RMSNorm(19, EPS),
        {"x": (3, 19), "add": (3, 19)},
        lambda p, x, add: rms_norm(x, p["weight"], EPS) + add,
    ),
    # As many heads as elements of a head: a norm over the wrong axis would fit.
    "RMS norm of square heads": LayerCase(
        lambda: RMSNorm(8, EPS), {"x": (8, 8)}, lambda p, x: rms_norm(x, p["weight"], EPS)
    ),
    "QK norm": LayerCase(_HeadNorms, {"qkv": (HEADS.qkv_width,)}, _head_norms(0.0)),
    "QK norm with unit offset": LayerCase(
        lambda: _HeadNorms(True), {"qkv": (HEADS.qkv_width,)}, _head_norms(1.0)
    ),
    "QK norm of two kinds": LayerCase(
        lambda: _HeadNorms(key_eps=0.5), {"qkv": (HEADS.qkv_width,)}, _head_norms(0.0, 0.5)
    ),
    "layer norm": LayerCase(
        lambda: LayerNorm(47, EPS),
        {"x": (47,)},
        lambda p, x: layer_norm(x, p["weight"], p["bias"], EPS),
    ),
    "layer norm of three axes without bias": LayerCase(
        lambda: LayerNorm(19, EPS, bias=False),
        {"x": (3, 19)},
        lambda p, x: layer_norm(x, p["weight"], 0.0, EPS),
    ),
    **{
        f"activation {name}": LayerCase(partial(Activation, name), {"x": (47,)}, _activated(name))
        for name in ACTIVATIONS
    },
    **{
        f"gated {name}": LayerCase(partial(GatedActivation, name), {"x": (2 * 47,)}, _gated(name))
        for name in ACTIVATIONS
    },
    "gated of three axes": LayerCase(
        lambda: GatedActivation("silu"), {"x": (3, 2 * 11)}, _gated("silu")
    ),
    "LayerNorm and GeGLU between linear layers": LayerCase(
        lambda: _Block(
            LayerNorm(70, EPS),
            Linear(70, (45, 45), bias=True),
            GatedActivation("gelu_tanh"),
            Linear(45, 70, bias=True),
        ),
        {"x": (70,)},
        _geglu_block,
    ),
    "RMSNorm and GeLU between linear layers": LayerCase(
        lambda: _Block(
            RMSNorm(70, EPS, unit_offset=True),
            Linear(70, 45),
            Activation("gelu"),
            Linear(45, 70),
        ),
        {"x": (70,)},
        _gelu_block,
    ),
    "no layer": LayerCase(lambda: _Plain(47), {"x": (47,)}, _plain),
}
"""The cases by name."""
