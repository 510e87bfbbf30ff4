"""A compiled library, opened as code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.errors import LibraryError
from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.failures import is_shortage
from mlc_llm.runtime.metadata import LibraryMetadata

if TYPE_CHECKING:
    import tvm


class CompiledLibrary:
    """The functions of a library, on one device.

    Its record must have been checked before: opening a file runs code of it.

    Args:
        path: the library's file.
        device: where its functions run.

    Raises:
        LibraryError: it cannot be opened, or says nothing of itself.

    Attributes:
        is_instrumented: whether calls are being shown to an instrument.
    """

    def __init__(self, path: Path, device: tvm.runtime.Device) -> None:
        import tvm
        import tvm_ffi
        from tvm.runtime.vm import VirtualMachine

        self.path = path
        self.is_instrumented = False
        try:
            # Without this TVM keeps every library that was loaded, 120 KiB and more each time. A
            # GPU's kernels stay: what a driver makes of them is not given back in any order.
            module = tvm_ffi.load_module(path.resolve(), keep_module_alive=not on_host(device))
            # TVM's pool gives nothing back, and takes more for every new length of a prompt.
            allocators = {tvm.cpu(): VirtualMachine.NAIVE_ALLOCATOR}
            self._vm = VirtualMachine(module, device, allocators)
        except Exception as error:
            if is_shortage(error):
                raise
            raise LibraryError(
                f"The library {path} cannot be loaded: {error}\nDelete it or leave "
                "model_lib out, so that a library is compiled for this machine.",
                code="library-damaged",
            ) from error
        self.metadata = LibraryMetadata.parse(str(self.function("_metadata")()), str(path))

    def function(self, name: str) -> Any:
        """Return the function of that name; raises LibraryError when there is none."""
        try:
            return self._vm[name]
        except AttributeError:
            raise LibraryError(
                f"The library {self.path} lacks the function {name!r}: it was not compiled by "
                "this version of mlc_llm. Compile it again, or leave model_lib out.",
                code="library-damaged",
            ) from None

    def bound(self, name: str, *last: Any) -> Any:
        """The function ``name`` with its last arguments given, as long as this library is open.

        Args:
            name: the function.
            last: tensors on this device, or tuples of them.

        Raises:
            LibraryError: there is no such function.
        """
        self.function(name)
        self._vm.save_function(name, f"{name}_bound", *last)
        return self.function(f"{name}_bound")

    @contextmanager
    def instrumented(self, instrument: Callable[..., int]) -> Iterator[None]:
        """Show ``instrument`` every call that the virtual machine makes in the ``with`` block.

        Args:
            instrument: is called before and after each one with ``(function, name, before,
                result, *arguments)``, as TVM's ``VirtualMachine.set_instrument`` says. When it
                returns 1 before a call, that call is left out, and so is the call after it.
        """
        self._vm.set_instrument(instrument)
        self.is_instrumented = True
        try:
            yield
        finally:
            self._vm.set_instrument(None)
            self.is_instrumented = False
