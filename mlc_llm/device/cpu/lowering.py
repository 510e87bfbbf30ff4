"""A model's layers, replaced by ones that call the CPU's kernels on packed weights.

A layer that is not replaced is computed by its own operations, in float32.
"""

from __future__ import annotations

from typing import Any

from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import call_kernel, change_in_place, has_kind, over_rows
from mlc_llm.device.cpu.deferred import DeferredRows, LinearInput
from mlc_llm.device.cpu.kernels.activation import Activated, Gated
from mlc_llm.device.cpu.kernels.head_norm import head_norm
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.norm import LayerNormed, RmsNormed
from mlc_llm.device.cpu.kernels.rows import RowKind, added_rows_kernel, rows_kernel
from mlc_llm.device.cpu.kernels.widen import widen
from mlc_llm.device.cpu.packed import ACTIVATION, Packed, PackedPieces, joined, pack
from mlc_llm.model.layers import (
    Activation,
    Embedding,
    GatedActivation,
    LayerNorm,
    Linear,
    RMSNorm,
)
from mlc_llm.model.module import (
    Module,
    ModulePlace,
    Parameter,
    computes_as,
    parameter_places,
    replace_modules,
)
from mlc_llm.model.stored import StoredWeight
from mlc_llm.plugin import AttentionSpec, Plan, Repack


class CPULinear(Module):
    """A linear layer on a packed weight; it keeps an output dtype that the model asked for."""

    def __init__(self, layer: Linear, packed: Packed | PackedPieces, dtype: str) -> None:
        self.packed = packed
        bias = layer.bias
        self.bias = None if bias is None else Parameter(bias.shape, bias.dtype or dtype)
        self.out_features, self.out_dtype = layer.out_features, layer.out_dtype or ACTIVATION

    def forward(self, x: nn.Tensor, add: nn.Tensor | None = None) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.Linear.forward`; the kernel adds the residual."""
        if add is not None and self._takes(add, x):
            return over_rows(x, self._linear, add)
        y = over_rows(x, self._linear)
        return y if add is None else add + y

    def joined(self: Any, x: nn.Tensor, *others: Any) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.Linear.joined`; one kernel computes layers of codes."""
        layers, dtype = (self, *others), self.out_dtype
        alike = all(
            isinstance(layer, CPULinear) and layer.bias is None and layer.out_dtype == dtype
            for layer in layers
        )
        packed = joined([layer.packed for layer in layers]) if alike else None
        if packed is None:
            return Linear.joined(self, x, *others)
        return over_rows(x, lambda rows: packed.linear(rows, None, dtype))

    def _linear(self, x: nn.Tensor, residual: nn.Tensor | None = None) -> nn.Tensor:
        return self.packed.linear(x, self.bias, self.out_dtype, residual)

    def _takes(self, residual: nn.Tensor, x: nn.Tensor) -> bool:
        """Whether a residual is what kernels add; TVM's operator broadcasts or refuses others."""
        return has_kind(residual, (*x.shape[:-1], self.out_features), self.out_dtype)


class CPUEmbedding(Module):
    """An embedding from a packed table, which a tied output projection shares."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        return self.packed.embedding(ids)

    def as_linear(self, x: nn.Tensor) -> nn.Tensor:
        return self.packed.linear(x, None, "float32")


class CPURows(Module):
    """A norm or an activation, deferred: the linear layer that takes its result computes it.

    Args:
        rows: what it computes of each row.
        weight: of a norm.
        bias: of a norm.
        isa: what the CPU offers.
    """

    def __init__(
        self,
        rows: RowKind,
        isa: Isa,
        weight: Parameter | None = None,
        bias: Parameter | None = None,
    ) -> None:
        self.rows, self.isa = rows, isa
        self.weight, self.bias = weight, bias

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return over_rows(x, self._deferred)

    def _deferred(self, x: nn.Tensor) -> nn.Tensor:
        taken = LinearInput(self.rows, (x, *self._weights))
        return DeferredRows(taken, self._columns(x), lambda: self._alone(x))

    def _alone(self, x: nn.Tensor) -> nn.Tensor:
        columns = self._columns(x)
        kernel, shape = rows_kernel(self.rows, columns, x.dtype, self.isa), (x.shape[0], columns)
        return call_kernel(kernel, self.rows.name, [x, *self._weights], shape, x.dtype)

    def _columns(self, x: nn.Tensor) -> int:
        return int(x.shape[1] // self.rows.width(1))

    @property
    def _weights(self) -> list[Any]:
        return [weight for weight in (self.weight, self.bias) if weight is not None]


class CPUActivation(CPURows):
    """An activation that is not a gate, computed at once.

    TVM's simplifier puts a value that reads no memory in the place of each of its uses. Within a
    linear kernel such a function grows so much by this that it takes seconds to compile.
    """

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return over_rows(x, self._alone)


class CPURMSNorm(CPURows):
    """An RMS norm, of rows or of the heads of queries and keys."""

    def __init__(self, norm: RMSNorm, dtype: str, isa: Isa) -> None:
        rows = RmsNormed(norm.eps, dtype, norm.unit_offset)
        super().__init__(rows, isa, Parameter((norm.dim,), dtype))
        self.norm = rows

    def forward(self, x: nn.Tensor, add: nn.Tensor | None = None) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.RMSNorm.forward`; the kernel adds the residual."""
        if add is not None and has_kind(add, x.shape, x.dtype):
            return over_rows(x, self._added, add)
        y = super().forward(x)
        return y if add is None else add + y

    def _added(self, x: nn.Tensor, residual: nn.Tensor) -> nn.Tensor:
        columns = self._columns(x)
        kernel = added_rows_kernel(self.rows, columns, x.dtype, self.isa)
        args, shape = [x, *self._weights, residual], (x.shape[0], columns)
        return call_kernel(kernel, f"{self.rows.name}_add", args, shape, x.dtype)

    def of_heads(self: Any, qkv: nn.Tensor, attention: AttentionSpec, keys: Any) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.RMSNorm.of_heads`."""
        norm = self.norm
        if norm != keys.norm:
            return RMSNorm.of_heads(self, qkv, attention, keys)
        kernel = head_norm(
            attention, norm.epsilon, norm.weight_dtype, qkv.dtype, self.isa, norm.unit_offset
        )
        args = [qkv, self.weight, keys.weight]
        (normed,) = change_in_place(kernel, "head_norm", args, [0])
        return normed


class CPULowering:
    """Replaces the layers of a model, and collects how its parameters are made.

    Args:
        plan: how the weights are stored.
        isa: what the CPU offers.
        activations: how matmuls with quantised weights round activations: "a8" or "a16".
    """

    def __init__(self, plan: Plan, isa: Isa, activations: str) -> None:
        self.plan, self.isa, self.activations = plan, isa, activations
        self.steps: list[Repack] = []

    def lower(self, model: Module) -> Module:
        """The lowered model; `steps` then has a step for each of its parameters."""
        lowered = replace_modules(model, self._replacement)
        made = {name for step in self.steps for name in step.outputs}
        for place in parameter_places(lowered):
            if place.name not in made:
                self._pass_through(place)
        return lowered

    def _replacement(self, name: str, layer: Module) -> Module | None:
        dtype, isa = self.plan.dtype, self.isa
        made: Any = None
        if computes_as(layer, Linear):
            made = CPULinear(layer, self._packed(name, layer), dtype)
        elif computes_as(layer, Embedding):
            made = CPUEmbedding(self._packed(name, layer))
        elif computes_as(layer, RMSNorm):
            made = CPURMSNorm(layer, dtype, isa)
        elif computes_as(layer, LayerNorm):
            weight = Parameter((layer.dim,), dtype)
            bias = None if layer.bias is None else Parameter((layer.dim,), dtype)
            made = CPURows(LayerNormed(layer.eps, dtype, bias is not None), isa, weight, bias)
        elif computes_as(layer, GatedActivation):
            made = CPURows(Gated(layer.name), isa)
        elif computes_as(layer, Activation):
            made = CPUActivation(Activated(layer.name), isa)
        if made is not None:
            own = (f"{name}.weight", f"{name}.bias")
            there = {place.name for place in parameter_places(made, name)}
            self.steps += [Repack((one,), (one,)) for one in own if one in there]
        return made

    def _packed(self, name: str, layer: Linear | Embedding) -> Any:
        stored = StoredWeight.of(name, layer, self.plan)
        packed, steps = pack(stored, f"{name}.packed", self.isa, self.activations)
        self.steps += steps
        return packed

    def _pass_through(self, place: ModulePlace) -> None:
        """A parameter that no kernel reads: operations compute in float32, and so it is given."""
        parameter: Parameter = place.get()
        dtype = parameter.dtype or self.plan.dtype
        if dtype == "float16":
            kernel = widen(tuple(s if isinstance(s, int) else None for s in parameter.shape), dtype)
            self.steps.append(Repack((place.name,), (place.name,), kernel))
            dtype = ACTIVATION
        else:
            self.steps.append(Repack((place.name,), (place.name,)))
        place.put(Parameter(parameter.shape, dtype))
