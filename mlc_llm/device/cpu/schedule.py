"""A plain schedule for what has no kernel: the functions that TVM makes of Relax operators.

Residual additions, gathers and casts are of this kind, and whatever an architecture computes by
itself. Element-wise parts are joined into one loop nest, its last axis in vectors, the rest over
the threads. A part that reduces runs over its results in parallel, and takes the terms of each in
order: no result depends on the number of threads. What TVM writes as a whole (a sort, a scan) stays
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from math import gcd

import tvm
from tvm import ir, s_tir, tirx
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.tirx.analysis import undefined_vars

_SPATIAL, _REDUCED = tirx.IterVar.DataPar, tirx.IterVar.CommReduce


@tvm.transform.module_pass(opt_level=0, name="ScheduleRest")
class ScheduleRest:
    """Schedule every function that is not scheduled yet.

    Args:
        lanes: of a float32 vector.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes

    def transform_module(
        self, module: tvm.IRModule, _context: tvm.transform.PassContext
    ) -> tvm.IRModule:
        for variable, function in module.functions_items():
            if isinstance(function, tirx.PrimFunc) and "tirx.is_scheduled" not in function.attrs:
                module.update_func(variable, _scheduled(function, self.lanes))
        return module


def _scheduled(function: tirx.PrimFunc, lanes: int) -> tirx.PrimFunc:
    """The function with as much of it scheduled as TVM can.

    A step that TVM refuses leaves the function as it was before the step.
    """
    schedule = s_tir.Schedule(function)
    for block in _blocks(schedule):
        with suppress(s_tir.ScheduleError):
            _inline(schedule, block)
    for block in _blocks(schedule):
        with suppress(s_tir.ScheduleError):
            _spread(schedule, block, lanes)
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _blocks(schedule: s_tir.Schedule) -> list[SBlockRV]:
    """The blocks in their order; none where the function is a single opaque one."""
    try:
        return list(schedule.get_child_blocks(schedule.get_sblock("root")))
    except s_tir.ScheduleError:
        return []


def _inline(schedule: s_tir.Schedule, block: SBlockRV) -> None:
    """Compute a block's elements where they are used, unless a reduction uses them.

    A reduction may use an element many times, as a matrix product does.
    """
    users = schedule.get_consumers(block)
    if users and all(_is_elementwise(schedule, user) for user in users):
        schedule.compute_inline(block)


def _spread(schedule: s_tir.Schedule, block: SBlockRV, lanes: int) -> None:
    """Spread a block over the threads, and over the lanes of vectors where it goes along memory."""
    types = [variable.iter_type for variable in schedule.get(block).iter_vars]
    loops = list(schedule.get_loops(block))
    if not loops or len(types) != len(loops):  # only then is each variable that of a loop
        return
    spatial = len(list(takewhile(lambda of: of == _SPATIAL, types)))
    outer, rest = loops[:spatial], loops[spatial:]
    if _is_elementwise(schedule, block):
        *outer, inner = outer
        _, vector = schedule.split(inner, [None, lanes])
        schedule.vectorize(vector)
        _parallelise(schedule, outer)
    elif rest and all(of == _REDUCED for of in types[spatial:]):
        _reduce(schedule, block, outer, rest, _neighbours(schedule, block, outer, lanes))
    else:
        _parallelise(schedule, outer)


def _reduce(
    schedule: s_tir.Schedule,
    block: SBlockRV,
    outer: Sequence[LoopRV],
    reduced: Sequence[LoopRV],
    lanes: int,
) -> None:
    """Compute `lanes` results of a block together, each of them in the order of its terms."""
    if lanes > 1:
        *outer, inner = outer
        inner, vector = schedule.split(inner, [None, lanes])
        outer = [*outer, inner]
        schedule.reorder(*reduced, vector)
        schedule.vectorize(vector)
    _parallelise(schedule, outer)
    # Results begin before the loops that add, or they would not where there is nothing to add.
    schedule.decompose_reduction(block, reduced[0])


def _neighbours(
    schedule: s_tir.Schedule, block: SBlockRV, outer: Sequence[LoopRV], lanes: int
) -> int:
    """How many results that are neighbours in the last spatial loop make vectors without a rest.

    They do where those of them that are read are neighbours in memory, too.
    """
    computed = schedule.get(block)
    extent = schedule.get(outer[-1]).extent if outer else None
    if not isinstance(extent, tirx.IntImm) or not isinstance(computed.body, tirx.BufferStore):
        return 1
    last = computed.iter_vars[len(outer) - 1].var

    def depends(index: ir.Range) -> bool:
        return any(last.same_as(variable) for variable in undefined_vars(index.min))

    regions = [region.region for region in computed.reads if region.region]
    along = any(depends(region[-1]) for region in regions)
    across = any(depends(index) for region in regions for index in region[:-1])
    return gcd(int(extent), lanes) if along and not across else 1


def _parallelise(schedule: s_tir.Schedule, loops: Sequence[LoopRV]) -> None:
    """Run the iterations of nested loops over the threads."""
    if loops:
        schedule.parallel(schedule.fuse(*loops) if len(loops) > 1 else loops[0])


def _is_elementwise(schedule: s_tir.Schedule, block: SBlockRV) -> bool:
    """Whether each iteration of a block computes an element by itself."""
    written = schedule.get(block)
    independent = all(variable.iter_type == _SPATIAL for variable in written.iter_vars)
    return independent and isinstance(written.body, tirx.BufferStore)
