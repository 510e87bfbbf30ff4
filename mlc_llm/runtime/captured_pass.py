"""A pass that a device launches as a whole, where it can (``Device.capture``).

A token takes hundreds of kernels, and to launch one costs the host some microseconds. Each time
they are the same ones, and where their arguments stay in their places, they are captured once and
launched with one call from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mlc_llm.runtime.compiled_library import CompiledLibrary

logger = logging.getLogger(__name__)

Capture = Callable[[Callable[[], None]], "Callable[[], None] | None"]
"""``Device.capture`` of one adapter."""


def no_capture(_work: Callable[[], None]) -> None:
    """Where nothing can be captured."""


_STORAGE = "vm.builtin.alloc_storage"
"""TVM's function that takes memory for what a pass computes."""


class CapturedPass:
    """A function of a library, which is captured when it is called again with the same tensors.

    Until then, and with other tensors, it is called as it is. So a pass that runs once costs
    nothing more.

    Args:
        function: returns one tensor, which each call with the same tensors may write again.
        library: whose function it is.
        capture: captures what it launches.
    """

    def __init__(
        self, function: Callable[..., Any], library: CompiledLibrary, capture: Capture
    ) -> None:
        self._function, self._library = function, library
        self._capture: Capture | None = capture
        self._tensors: tuple[Any, ...] = ()
        self._launch: Callable[[], None] | None = None
        self._result: Any = None
        self._storages: list[Any] = []

    def __call__(self, *tensors: Any) -> Any:
        if self._capture is None or self._library.is_instrumented:
            return self._function(*tensors)
        if not self._are_captured(tensors):
            self._launch, self._tensors = None, tensors
            return self._function(*tensors)
        if self._launch is None:
            self._launch = self._try_capture(self._capture)
        if self._launch is None:
            return self._function(*tensors)
        self._launch()
        return self._result

    def _are_captured(self, tensors: tuple[Any, ...]) -> bool:
        """Whether they are those of the call before."""
        return len(tensors) == len(self._tensors) and all(
            one.same_as(other) for one, other in zip(tensors, self._tensors, strict=True)
        )

    def _try_capture(self, capture: Capture) -> Callable[[], None] | None:
        """What launches the pass. None where it cannot be captured, which is not tried again."""
        # Memory cannot be taken from the driver meanwhile. What the pass takes is in TVM's pool
        # once it has run, and nothing of it is in use.
        self._result, self._storages = None, []
        self._function(*self._tensors)
        launch = None
        try:
            with self._library.instrumented(self._keep_storage):
                launch = capture(self._run)
        except RuntimeError as error:
            logger.warning("The kernels of a token are launched one by one: %s", error)
        if launch is None:
            self._capture = self._result = None
            self._storages = []
        return launch

    def _run(self) -> None:
        self._result = self._function(*self._tensors)

    def _keep_storage(self, _f: Any, name: str, before: bool, result: Any, *_arguments: Any) -> int:
        """Keep what the captured kernels write to; TVM would give it to others."""
        if not before and name == _STORAGE:
            self._storages.append(result)
        return 0
