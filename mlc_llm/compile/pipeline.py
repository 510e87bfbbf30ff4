"""The ordered passes from a traced model to functions that TVM's virtual machine runs."""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax, tirx
from tvm.ir.transform import Pass, Sequential

from mlc_llm.compile.sharing import ShareViews
from mlc_llm.plugin import DeviceCodegen


def pipeline(codegen: DeviceCodegen) -> Sequential:
    """All passes, in their order."""
    return Sequential(
        [*_operators(), *codegen.passes(), *_dataflow(), *_memory(), *_machine(), MarkNoAlias()]
    )


def _operators() -> Sequence[Pass]:
    """Operators become functions, and element-wise ones are fused; kernels are opaque to this.

    A reshape stays an operator, which the virtual machine does without copying.
    """
    return [
        relax.transform.LegalizeOps(skip_ops=["relax.reshape"]),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]


def _dataflow() -> Sequence[Pass]:
    """Values become buffers that functions write into."""
    return [
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
    ]


def _memory() -> Sequence[Pass]:
    """Buffers share storage where their lives do not meet.

    Nothing is killed before a function returns: the plan uses all storage again, and to empty a
    register costs the virtual machine an instruction.
    """
    return [relax.transform.StaticPlanBlockMemory(), relax.transform.LowerAllocTensor()]


def _machine() -> Sequence[Pass]:
    """Calls of the virtual machine's own functions."""
    return [
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        ShareViews(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


@tvm.transform.module_pass(opt_level=0, name="MarkNoAlias")
class MarkNoAlias:
    """Say of every function that its buffers do not overlap, which holds for all of them.

    One function that does not say so makes LLVM keep the accumulators of every kernel of its
    module in memory. The shape functions, which come last, do not say so by themselves.
    """

    def transform_module(
        self, module: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        for variable, function in module.functions_items():
            if isinstance(function, tirx.PrimFunc):
                module.update_func(variable, function.with_attr("tirx.noalias", True))
        return module
