"""Kernels are compiled for several instruction sets and called directly, without the VM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import tvm
from tvm.target import Target
from tvm.target.codegen import llvm_cpu_has_features

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.kernels.isa import Isa

# One for each row of the table in isa.py that an x86 CPU can run, the widest first.
TARGETS = {
    "vnni512": Target({"kind": "llvm", "mcpu": "cascadelake", "mattr": ["-prefer-256-bit"]}),
    "avx512": Target({"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["-prefer-256-bit"]}),
    "avxvnni": Target({"kind": "llvm", "mcpu": "x86-64-v3", "mattr": ["+avxvnni"]}),
    "avx2": Target({"kind": "llvm", "mcpu": "haswell"}),
    "sse": Target({"kind": "llvm", "mcpu": "x86-64-v2"}),
    "generic": Target({"kind": "llvm"}),
}
NEEDS = {
    "vnni512": ("avx512vnni", "avx512bw", "avx512dq", "avx512vl"),
    "avx512": ("avx512bw", "avx512dq", "avx512vl"),
    "avxvnni": ("avxvnni", "avx2", "fma", "f16c"),
    "avx2": ("avx2", "fma", "f16c"),
    "sse": ("sse4.2",),
}
WIDTHS = ("vnni512", "avx2", "generic")  # one of each vector width


@dataclass
class Machine:
    """A target, what it offers, and a way to run kernels that were compiled for it."""

    target: Target
    isa: Isa
    _built: dict[object, Callable[..., None]] = field(default_factory=dict)

    def __call__(self, primfunc: tvm.tirx.PrimFunc, *arguments: object) -> None:
        """Run; NumPy arrays are passed as tensors and take the results."""
        if primfunc not in self._built:
            name = primfunc.attrs["global_symbol"]
            self._built[primfunc] = compile_kernels(primfunc, self.target)[name]
        passed = [
            tvm.runtime.tensor(np.ascontiguousarray(a)) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        self._built[primfunc](*passed)
        for given, tensor in zip(arguments, passed, strict=True):
            if isinstance(given, np.ndarray):
                given[...] = tensor.numpy()


def _machine(name: str) -> Machine:
    host = Target.from_device("cpu")
    missing = [f for f in NEEDS.get(name, ()) if not llvm_cpu_has_features(f, host)]
    if missing:
        pytest.skip(f"this CPU has no {', '.join(missing)}")
    return Machine(TARGETS[name], Isa.of(TARGETS[name]))


@pytest.fixture(scope="session", params=WIDTHS)
def machine(request: pytest.FixtureRequest) -> Machine:
    """Every vector width in turn."""
    return _machine(request.param)


@pytest.fixture(scope="session", params=list(TARGETS))
def every_machine(request: pytest.FixtureRequest) -> Machine:
    """Every instruction set in turn."""
    return _machine(request.param)


@pytest.fixture(scope="session")
def best() -> Machine:
    """The widest instruction set that this CPU runs."""
    host = Target.from_device("cpu")
    name = next(n for n in TARGETS if all(llvm_cpu_has_features(f, host) for f in NEEDS.get(n, ())))
    return _machine(name)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240607)
