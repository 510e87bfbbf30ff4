"""CUDA graphs: launches that are recorded once, and made again with one call.

TVM has this, too (``vm.builtin.cuda_graph``), but while it records, another thread of the process
may neither take memory nor compute: the recording, and perhaps the other's work, would fail. Here
the stream that records orders itself after nothing, and the calls of other threads are their own
business. (CUDA Programming Guide, "Prohibited and Unhandled Operations" of stream capture.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlc_llm_cuda.toolkit import CUDART, open_library

if TYPE_CHECKING:
    import tvm

NON_BLOCKING = 1
"""``cudaStreamNonBlocking``: not ordered with the default stream, which TVM uses elsewhere."""
CAPTURE_THREAD_LOCAL = 1
"""``cudaStreamCaptureModeThreadLocal``: only calls of this thread can make the capture fail."""


def capture(handle: tvm.runtime.Device, work: Callable[[], None]) -> Callable[[], None]:
    """As :meth:`mlc_llm.plugin.Device.capture`.

    Raises:
        RuntimeError: CUDA's runtime library said no, or ``work`` failed.
    """
    import tvm_ffi

    cuda = _Runtime(handle.index)
    stream = cuda.handle("cudaStreamCreateWithFlags", NON_BLOCKING)
    try:
        cuda.call("cudaStreamBeginCapture", stream, CAPTURE_THREAD_LOCAL)
        try:
            with tvm_ffi.use_raw_stream(handle, stream.value or 0):
                work()
        finally:  # A stream that records cannot be destroyed.
            graph = cuda.ended_capture(stream)
    finally:
        cuda.call("cudaStreamDestroy", stream)
    return Graph(cuda, graph)


class Graph:
    """What was recorded; a call launches it in the default stream.

    Args:
        cuda: the runtime library.
        graph: a ``cudaGraph_t``, which is used up.
    """

    def __init__(self, cuda: _Runtime, graph: ctypes.c_void_p) -> None:
        self._cuda = cuda
        try:
            self._executable = cuda.handle("cudaGraphInstantiate", graph, ctypes.c_ulonglong(0))
        finally:
            cuda.call("cudaGraphDestroy", graph)

    def __call__(self) -> None:
        self._cuda.call("cudaGraphLaunch", self._executable, None)

    def __del__(self) -> None:
        if (executable := getattr(self, "_executable", None)) is not None:
            self._cuda.library.cudaGraphExecDestroy(executable)


class _Runtime:
    """CUDA's runtime library, for one device."""

    def __init__(self, ordinal: int) -> None:
        self.library = open_library(CUDART)
        self.library.cudaGetErrorString.restype = ctypes.c_char_p
        self._ordinal = ordinal

    def call(self, name: str, *arguments: object) -> None:
        """Call a function; raises RuntimeError with CUDA's words."""
        status = self.library.cudaSetDevice(self._ordinal)
        if status == 0:
            status = getattr(self.library, name)(*arguments)
        if status != 0:
            self.library.cudaGetLastError()  # else a later call may be told of it again
            reason = self.library.cudaGetErrorString(status).decode()
            raise RuntimeError(f"CUDA's {name} failed with error {status}: {reason}")

    def handle(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Call a function that makes a handle, its first argument."""
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made

    def ended_capture(self, stream: ctypes.c_void_p) -> ctypes.c_void_p:
        """End a capture; returns the graph."""
        graph = ctypes.c_void_p()
        self.call("cudaStreamEndCapture", stream, ctypes.byref(graph))
        return graph
