"""A process with an emulated GPU, for tests: requests go to :mod:`worker`."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

HERE = Path(__file__).resolve().parent
EMULATOR = HERE.parents[1] / "emulator"


class GPUFailed(Exception):
    """The call failed, with this message."""


class GPUDied(Exception):
    """The process died of this signal."""


class GPU:
    """Emulated GPUs, and a process that uses them. It is started when it is first needed.

    A process whose kernel has failed is of no use any more, as on a GPU; another one then begins.

    Args:
        preload: the value of LD_PRELOAD.
        variables: further ones of the environment, as GPU_EMULATOR_MEMORY.
    """

    def __init__(self, preload: str, **variables: str) -> None:
        self.variables = {"LD_PRELOAD": preload, **variables}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a function of :mod:`worker`; raises GPUFailed or GPUDied."""
        process = self._process or self._start()
        try:
            pickle.dump((name, arguments, options), self._requests)
            self._requests.flush()
            succeeded, answer, ended = pickle.load(self._answers)
        except (EOFError, BrokenPipeError):
            status = process.wait()
            self.close()
            raise GPUDied(-status) from None
        if ended:
            self.close()
        if not succeeded:
            raise GPUFailed(answer)
        return answer

    def run(self, text: str, grid: Any, block: Any, *values: Any, **options: Any) -> Any:
        """Run the kernel ``f`` of a text of CUDA C; arrays take what it wrote."""
        grid, block = (size if isinstance(size, tuple) else (size,) for size in (grid, block))
        self._fill(values, self.call("run_text", text, grid, block, *values, **options))

    def run_kernel(self, kernel: Any, *arguments: Any) -> None:
        """Compile and run a PrimFunc; arrays take what it wrote."""
        import tvm

        json = tvm.ir.save_json(kernel)
        self._fill(arguments, self.call("run_kernel", json, *arguments))

    def set(self, name: str, value: str | None) -> None:
        """Set GPU_EMULATOR_<name> in the process, and in those that replace it."""
        variable = f"GPU_EMULATOR_{name}"
        if value is None:
            self.variables.pop(variable, None)
        else:
            self.variables[variable] = value
        if self._process is not None:
            self.call("set_variable", variable, value)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):  # it has died
                self._requests.close()
            self._answers.close()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        (for_worker, to_worker), (from_worker, of_worker) = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(for_worker), str(of_worker)],
            pass_fds=(for_worker, of_worker),
            env={**os.environ, **self.variables},
        )
        os.close(for_worker)
        os.close(of_worker)
        self._requests, self._answers = os.fdopen(to_worker, "wb"), os.fdopen(from_worker, "rb")
        return self._process

    @staticmethod
    def _fill(given: tuple[Any, ...], results: list[np.ndarray]) -> None:
        arrays = [value for value in given if isinstance(value, np.ndarray)]
        for array, result in zip(arrays, results, strict=True):
            array[...] = result
