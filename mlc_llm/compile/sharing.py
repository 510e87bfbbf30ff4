"""Tensors that name the same memory in the same way are made once.

The memory plan gives the layers of a model the same few storages in turn. A tensor made in a
storage, and a view of it in another shape, costs the virtual machine as much as a small kernel, and
each layer makes some ten of them. What would be made of the same arguments is the same value, so
only the first is made.
"""

from __future__ import annotations

from collections.abc import Hashable

import tvm
import tvm_ffi
from tvm import relax

_VIEWS = frozenset({"relax.vm.alloc_tensor", "vm.builtin.reshape"})
"""Calls of the virtual machine whose results are views of an argument's memory."""


@tvm.transform.module_pass(opt_level=0, name="ShareViews")
class ShareViews:
    """Make each view and each constant of a function once; runs on planned memory."""

    def transform_module(
        self, module: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        for variable, function in module.functions_items():
            if isinstance(function, relax.Function):
                module.update_func(variable, _shared(function))
        return module


def _shared(function: relax.Function) -> relax.Function:
    body = function.body
    if not isinstance(body, relax.SeqExpr):
        return function
    known = _Values()
    blocks = [
        relax.BindingBlock([known.shared(binding) for binding in block.bindings])
        for block in body.blocks
    ]
    return relax.Function(
        function.params,
        relax.SeqExpr(blocks, body.body),
        function.ret_ty,
        function.is_pure,
        function.attrs,
        function.span,
    )


class _Values:
    """The values of one function's variables, as far as they can be shared."""

    def __init__(self) -> None:
        self._first: dict[Hashable, relax.Var] = {}
        self._same: dict[relax.Var, relax.Var] = {}

    def shared(self, binding: relax.Binding) -> relax.Binding:
        """The binding, or one to the variable that has the same value already."""
        if not isinstance(binding, relax.VarBinding):
            return binding
        variable, value = binding.var, binding.value
        if isinstance(value, relax.Var):
            self._same[variable] = self._same.get(value, value)
        elif (key := self._key(value)) is not None:
            first = self._first.setdefault(key, variable)
            if not first.same_as(variable):
                self._same[variable] = first
                return relax.VarBinding(variable, first)
        return binding

    def _key(self, value: relax.Expr) -> Hashable | None:
        """What is equal for values that are the same; None for what cannot be shared."""
        if not isinstance(value, relax.Call):
            return None
        match value.op:
            case tvm.ir.Op(name=name) | relax.ExternFunc(global_symbol=name):
                if name not in _VIEWS:
                    return None
            case tvm.ir.GlobalVar(name_hint=name):
                if value.args:  # A kernel of no arguments computes a constant.
                    return None
        return (name, *map(self._part, value.args))

    def _part(self, part: relax.Expr) -> Hashable:
        if isinstance(part, relax.Var):
            return self._same.get(part, part)
        return tvm_ffi.StructuralKey(part)
