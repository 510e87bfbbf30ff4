"""The KV cache of a pass while it is traced: the calls of a device's attention kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import call_kernel, change_in_place
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase


@dataclass(frozen=True)
class TracedTables:
    """The int32 tables of a pass; see :class:`~mlc_llm.plugin.AttentionKernels`."""

    positions: nn.Tensor
    sequences: nn.Tensor
    page_table: nn.Tensor
    starts: nn.Tensor | None = None


class PagedCache:
    """What a model's layers call; see :class:`~mlc_llm.model.layers.AttentionCache`.

    Args:
        attention: how each layer attends.
        kernels: gives the kernels of a description.
        phase: which of them attend.
        tables: the pass's tables.
        pages: the tensors of keys and values, in the order of the layers that have their own.
    """

    def __init__(
        self,
        attention: Sequence[AttentionSpec],
        kernels: Callable[[AttentionSpec], AttentionKernels],
        phase: Phase,
        tables: TracedTables,
        pages: Sequence[nn.Tensor],
    ) -> None:
        self._attention, self._kernels, self._phase = attention, kernels, phase
        self._tables = tables
        self.positions = tables.positions
        self.pages = list(pages)
        self._place = page_places(attention)

    def attend(self, layer: int, qkv: nn.Tensor, sinks: nn.Tensor | None = None) -> nn.Tensor:
        """Rotate and append a layer's keys and values, then attend."""
        spec, tables = self._attention[layer], self._tables
        kernels, place = self._kernels(spec), self._place[layer]
        if kernels.append is not None:
            args = [qkv, tables.positions, tables.sequences, tables.page_table, self.pages[place]]
            called = change_in_place(kernels.append, "attention_append", args, [0, 4])
            qkv, self.pages[place] = called
        elif kernels.rotate is not None:
            args = [qkv, tables.positions]
            (qkv,) = change_in_place(kernels.rotate, "attention_rotate", args, [0])
        reads = self._phase == "prefill"
        starts = [tables.starts] if reads else []
        args = [qkv, tables.positions, tables.sequences, *starts, tables.page_table]
        args += [self.pages[place], *([] if sinks is None else [sinks])]
        kernel = kernels.prefill if reads else kernels.decode
        shape = (qkv.shape[0], spec.out_width)
        return call_kernel(kernel, f"attention_{self._phase}", args, shape, qkv.dtype)


def page_places(attention: Sequence[AttentionSpec]) -> list[int]:
    """For each layer, which of the page tensors holds the keys and values that it uses."""
    places: list[int] = []
    own = 0
    for spec in attention:
        if spec.keys_of is None:
            places.append(own)
            own += 1
        else:
            places.append(places[spec.keys_of])
    return places


def page_shapes(attention: Sequence[AttentionSpec]) -> list[tuple[int, int]]:
    """The shape of a page of each page tensor."""
    return [spec.page_shape for spec in attention if spec.keys_of is None]
