"""The device interface: what a backend says of itself, and how code is generated for it.

A device has two halves. :class:`Device` is cheap to import and knows whether the machine has the
device, how TVM opens it and what it compiles to. :class:`DeviceCodegen` is its compiler half,
loaded only to compile: it lowers a model's layers to the device's kernels and names its passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mlc_llm.errors import DeviceError
from mlc_llm.shown import shown
from mlc_llm.version import INTERFACE_VERSION

if TYPE_CHECKING:
    import tvm

    from mlc_llm.plugin.attention import AttentionSpec
    from mlc_llm.plugin.model_library import LibraryRecord
    from mlc_llm.plugin.scheme import Plan, Scheme


@dataclass(frozen=True)
class Adapter:
    """One physical device that a backend can use.

    Args:
        name: what the driver calls it.
        memory: bytes of memory, or None when that is not known.
        details: anything else worth showing, such as the driver's version.
        software: whether it is not hardware of its own but a driver that computes on the CPU;
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


class Unavailable(Exception):
    """Raised by a probe that finds what keeps the device from being used.

    Args:
        reason: why it cannot be used.
        remedy: what the user can do about it; empty when there is nothing to do.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.availability = Availability(reason=reason, remedy=remedy)


class Device(ABC):
    """A backend. Its entry point in ``mlc_llm.devices`` names an instance or a class of this."""

    interface_version: int = INTERFACE_VERSION
    name: str
    priority: int = 0
    """``auto`` takes the available device of the highest priority whose adapters are not all
    software."""
    options: Mapping[str, Sequence[str]] = {}
    """Compilation options: the values that each may have, the default first."""
    prefill_rows: int | None = None
    """Tokens of a prefill step beyond which it reads no faster: longer prompts are read in several
    steps, whose results stay in the caches. None where longer steps are faster or as fast."""
    probe_in_process: bool = False
    """Whether probing cannot crash or hang, so that no child process is needed for it."""

    @abstractmethod
    def probe(self) -> Availability:
        """Say whether the device can be used here; called in a child process with a timeout.

        Raises:
            Unavailable: it cannot; the same as an answer without adapters.
        """

    def trials(self) -> Mapping[str, Callable[[], str]]:
        """What the device is made of, tried step by step, for ``mlc_llm doctor``.

        A step is a name and a function that says what was found. Where something is not here it
        raises :class:`Unavailable`, with a remedy if there is something to do; whatever else it
        raises is a fault. The steps are called in their order in a child process with a timeout,
        in which TVM's compiler can be imported. By default there are none.
        """
        return {}

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

    def target_for(self, architectures: Sequence[str]) -> dict[str, Any]:
        """The TVM target of code for several kinds of adapters, none of which need be here.

        It is what ``mlc_llm compile --arch`` asks for. By default a device refuses: it compiles
        for the adapters that are here.

        Args:
            architectures: the kinds, in the device's own words, such as ``["80", "90"]``.

        Raises:
            DeviceError: the device does not compile so, or does not know one of them.
        """
        raise DeviceError(
            f"The device {self.name!r} compiles for what is here, and takes no architectures "
            f"({', '.join(map(shown, architectures))}). Leave --arch out.",
            code="arch-unsupported",
        )

    @abstractmethod
    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        """The compiler half; may import TVM's compiler.

        Args:
            target: the TVM target, as :meth:`target` gives it.
            opt: compilation options by name, such as ``{"activations": "a8"}``; those that are
                not there have their defaults. They are among :attr:`options`.
        """

    def capture(
        self, handle: tvm.runtime.Device, work: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Record the kernels that ``work`` launches, so that one call launches them all again.

        A generated token takes hundreds of launches, the same each time and on the same tensors.
        The model's thread calls this once, and what it returns for each further token.

        Args:
            handle: the adapter, as :meth:`open` returned it.
            work: launches kernels in this thread. It has run before, waits for nothing, and the
                memory that it takes is TVM's already.

        Returns:
            What launches them, in the order of other work of this thread; it may be called as long
            as the tensors live. None, which is the default, where the device cannot do this.

        Raises:
            RuntimeError: it failed. The model then launches its kernels one by one.
        """
        return None

    def has_scheme(self, scheme: Scheme) -> bool:
        """Whether the device has kernels for weights that are stored so.

        A model with others is refused before anything is compiled.

        Args:
            scheme: how a weight is stored.
        """
        return True

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
    """The ``PrimFunc`` of one description of attention, over pages that a table finds.

    The keys and values of a layer are one tensor, ``pages`` (number of pages, *page_shape), and
    ``page_table`` (sequences, pages of a sequence) says which pages a sequence has, in their order.
    A row of a pass is the token at ``positions[row]`` of sequence ``sequences[row]``. Keys are
    appended before they are attended to. What comes out of a row depends on its sequence up to its
    position and on nothing else: not on the other rows, nor on what the pages hold besides.

    The arguments are, with n rows of the activations' dtype, and int32 tables:

    ======= =============================================================================
    append  qkv (n, qkv_width), positions (n,), sequences (n,), page_table, pages; the queries
            of qkv are rotated in place, keys and values put into the pages
    rotate  qkv (n, qkv_width), positions (n,); the queries are rotated in place
    prefill qkv, positions (n,), sequences (n,), starts (b + 1,), page_table, pages, sinks,
            out (n, out_width); the rows ``starts[i]`` to ``starts[i + 1] - 1`` are consecutive
            tokens of one sequence
    decode  qkv, positions (n,), sequences (n,), page_table, pages, sinks, out (n, out_width);
            rows come in any order, several may be of one sequence, and there may be a single one
    ======= =============================================================================

    Of qkv, prefill and decode read the queries, which are the first columns. ``sinks``
    (query_heads,) float32 are there only where the description has ``sink_logits``. After out,
    prefill and decode may take buffers of fixed sizes, to write to as they like.

    Args:
        append: None for a layer that uses the keys and values of an earlier one.
        rotate: what such a layer does in its place; None for the others, and without RoPE.
        prefill: many tokens of each sequence.
        decode: single tokens.
    """

    append: tvm.tirx.PrimFunc | None
    rotate: tvm.tirx.PrimFunc | None
    prefill: tvm.tirx.PrimFunc
    decode: tvm.tirx.PrimFunc


Phase = Literal["prefill", "decode"]
"""What the kernels of a pass are for: a prompt's tokens, or single tokens and their logits."""


class DeviceCodegen(Protocol):
    """How models are compiled for one device and target."""

    rows_agree: bool
    """Whether a kernel for a single row gives the bits that the one for many rows gives."""

    def activation_dtype(self, model_dtype: str) -> str:
        """The dtype that activations have on this device.

        Args:
            model_dtype: that of the stored weights, ``float16`` or ``float32``.
        """

    def lower(self, model: Any, plan: Plan, phase: Phase) -> tuple[Any, list[Repack]]:
        """Replace layers by the device's own, and say how their parameters are made.

        How exactly a layer computes may depend on the phase, and must not depend on how many tokens
        there are. The parameters are the same in both phases. A layer for which the device has no
        kernel stays as it is: its operations are scheduled by what :meth:`passes` gives.

        Args:
            model: the architecture's ``mlc_llm.model.causal_lm.CausalLM``; it may be changed.
            plan: how its weights are stored.
            phase: what the model is for.

        Returns:
            The model that is compiled, each of its parameters with a dtype, and a step for each of
            them, or for several at once. Every stored parameter
            (``mlc_llm.model.stored.stored_parameters``) is the input of exactly one step.
        """

    def attention(self, spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
        """The kernels of one description of attention.

        Args:
            spec: the description.
            dtype: that of keys and values.
            activation_dtype: that of queries and results.
        """

    def passes(self) -> Sequence[tvm.ir.transform.Pass]:
        """Passes that schedule what is not scheduled yet, run after operators are fused."""
