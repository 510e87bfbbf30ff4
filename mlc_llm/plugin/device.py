"""The device interface: what a backend says of itself, and how code is generated for it.

A device has two halves. :class:`Device` is cheap to import and knows whether the machine has the
device, how TVM opens it and what it compiles to. :class:`DeviceCodegen` is its compiler half,
loaded only to compile: it lowers a model's layers to the device's kernels and names its passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from mlc_llm.version import INTERFACE_VERSION

if TYPE_CHECKING:
    import tvm
    from tvm.relax.frontend import nn

    from mlc_llm.plugin.architecture import ModelConfig
    from mlc_llm.plugin.model_library import LibraryRecord


@dataclass(frozen=True)
class Adapter:
    """One physical device that a backend can use.

    Args:
        name: what the driver calls it.
        memory: bytes of memory, or None when that is not known.
        details: anything else worth showing, such as the driver's version.
        software: whether it is no hardware of its own but a driver that computes on the CPU;
            ``auto`` then takes another device, the ``cpu`` at last.
        shares_memory: whether its memory is the host's.
        float16: whether it computes in float16; models with float16 weights are refused otherwise.
        largest_tensor: bytes that one tensor may have, or None where there is no such limit.
    """

    name: str
    memory: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    software: bool = False
    shares_memory: bool = False
    float16: bool = True
    largest_tensor: int | None = None


@dataclass(frozen=True)
class Availability:
    """Whether a device can be used here.

    Args:
        adapters: what can be used, in the order of their indices; empty when nothing can.
        reason: why nothing can be used.
        remedy: what the user can do about it; beside adapters that are all software, what would
            make a better one available.
    """

    adapters: tuple[Adapter, ...] = ()
    reason: str = ""
    remedy: str = ""

    @property
    def available(self) -> bool:
        """Whether there is an adapter."""
        return bool(self.adapters)


class Device(ABC):
    """A backend. Its entry point in ``mlc_llm.devices`` names an instance or a class of this."""

    interface_version: int = INTERFACE_VERSION
    name: str
    priority: int = 0
    """``auto`` takes the available device of the highest priority whose adapters are not all
    software."""
    probe_in_process: bool = False
    """Whether probing cannot crash or hang, so that no child process is needed for it."""
    can_sample: bool = False
    """Whether the device samples tokens itself; otherwise logits are sampled on the host."""

    @abstractmethod
    def probe(self) -> Availability:
        """Say whether the device can be used here; called in a child process with a timeout."""

    @abstractmethod
    def open(self, index: int) -> tvm.runtime.Device:
        """Return TVM's handle of an adapter; called in the thread that runs the model.

        Args:
            index: the adapter's place in the answer of :meth:`probe`.

        Raises:
            DeviceError: there is no such adapter.
        """

    @abstractmethod
    def target(self, index: int = 0) -> dict[str, Any]:
        """The TVM target, as a JSON object, that code for an adapter is compiled for.

        Libraries are cached by it, and one of another kind is refused. It is asked for where
        perhaps only TVM's runtime can be imported.

        Args:
            index: the adapter's place in the answer of :meth:`probe`.
        """

    @abstractmethod
    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        """The compiler half; may import TVM's compiler.

        Args:
            target: the TVM target, as :meth:`target` gives it.
            opt: compilation options by name, such as ``{"activations": "a8"}``; raises
                ``ConfigError`` for one that the device does not know.
        """

    def fingerprint(self) -> str:
        """Text that changes when :meth:`probe` may answer otherwise, as after a driver's update.

        With it, answers of the probe are kept between processes: see
        :mod:`mlc_llm.plugin.fingerprint`, which helps to make one. It is called in the user's
        process, so it reads files and opens no driver. By default it is empty, and the probe is
        run by every process.
        """
        return ""

    def required_features(self, target: Mapping[str, Any]) -> list[str]:
        """The CPU features that host code compiled for a target needs; they enter the record.

        Args:
            target: the TVM target, as :meth:`target` gives it.

        Returns:
            LLVM's names of them, such as ``avx512vnni``.
        """
        return []

    def mismatch(self, record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
        """Why a library cannot run on this machine, or None when it can.

        Architecture, shape, TVM's version, device and kind of target were compared before.

        Args:
            record: the library's record.
            target: the TVM target of the adapter that is to run it, as :meth:`target` gives it.

        Returns:
            A clause such as ``"it needs the CPU features avx2, which this CPU does not have"``.
        """
        return None


@dataclass(frozen=True)
class Repack:
    """How parameters of the lowered model are made from those of the model folder.

    Args:
        inputs: names of the stored parameters, in the kernel's order.
        outputs: names of the lowered model's parameters, in the kernel's order.
        kernel: a ``PrimFunc`` of (inputs..., outputs...); None passes one tensor through.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: tvm.tirx.PrimFunc | None = None


@dataclass(frozen=True)
class AttentionKernels:
    """The ``PrimFunc`` that TVM's paged KV cache calls, with the signatures that it defines.

    See ``vm.builtin.paged_attention_kv_cache_create`` in TVM's ``paged_kv_cache.cc`` and the
    ``TIR*`` classes of ``attn_backend.h``. Pages are (pages, 2, kv_heads, 16, head_dim).

    The kernels of a model with a sliding window mask what lies outside it; the cache's own sliding
    is not used, since it would give keys, which are stored rotated, new positions.
    """

    split_rotary: tvm.tirx.PrimFunc
    transpose_append: tvm.tirx.PrimFunc
    prefill_ragged: tvm.tirx.PrimFunc
    prefill: tvm.tirx.PrimFunc
    decode: tvm.tirx.PrimFunc
    merge_state: tvm.tirx.PrimFunc
    copy_single_page: tvm.tirx.PrimFunc
    debug_get_kv: tvm.tirx.PrimFunc
    compact_kv_copy: tvm.tirx.PrimFunc


class DeviceCodegen(Protocol):
    """How models are compiled for one device and target."""

    def activation_dtype(self, model_dtype: str) -> str:
        """The dtype that activations have on this device.

        Args:
            model_dtype: that of the stored weights, ``float16`` or ``float32``.
        """

    def lower(self, model: nn.Module) -> tuple[nn.Module, list[Repack]]:
        """Replace layers by the device's own, and say how their parameters are made.

        Args:
            model: the architecture's module with its quantised layers.

        Returns:
            The module that is compiled, and a step for each of its parameters, or for several at
            once. Every stored parameter is the input of exactly one step.
        """

    def attention(self, config: ModelConfig, dtype: str) -> AttentionKernels:
        """The kernels that TVM's paged KV cache calls.

        Args:
            config: the model's config.
            dtype: the KV cache's dtype.
        """

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        """Passes that schedule what is not scheduled yet, run after operators are fused."""
