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
from mlc_llm.device.cpu.kernels.group_layout import Part, packed_shapes
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.repack import repack
from mlc_llm.plugin.scheme import Scheme

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


# Those that models have, a zero in the middle, and others that the kernels take.
SCHEMES = {
    "4 bits": Scheme(4, "float16", 32, 7),
    "4 bits, zero 8": Scheme(4, "float32", 32, 8),
    "4 bits, minimums": Scheme(4, "float16", 32, None),
    "4 bits, groups of 40": Scheme(4, "float16", 40, 7),
    "4 bits, columns": Scheme(4, "float16", 32, 7, layout="columns"),
    "8 bits": Scheme(8, "float16", 32, 127),
    "8 bits, groups of 16": Scheme(8, "float16", 16, 128),
    "8 bits, minimums": Scheme(8, "float32", 32, None, layout="columns"),
    "3 bits": Scheme(3, "float16", 40, 3),
    "7 bits": Scheme(7, "float16", 40, 63),
    "5 bits, two levels": Scheme(5, "float16", 32, None, super_group=64),
    "6 bits, groups of 48": Scheme(6, "float32", 48, None, layout="columns"),
    "6 bits, two levels": Scheme(6, "float16", 16, 32, super_group=96),
    "4 bits, two levels": Scheme(4, "float16", 32, None, super_group=64, layout="columns"),
}


@dataclass(frozen=True)
class Weight:
    """A random weight as it is stored, and what it stands for.

    Args:
        scheme: how it is stored.
        tensors: the stored tensors.
        codes: (n, k).
        factors: the scales, the minimums if there are some, with rows on the first axis; where
            those have two levels, each is followed by its upper level.
    """

    scheme: Scheme
    tensors: list[np.ndarray]
    codes: np.ndarray
    factors: list[np.ndarray]

    @staticmethod
    def random(rng: np.random.Generator, n: int, k: int, scheme: Scheme) -> Weight:
        """A weight whose codes past column k are random, too."""
        groups = scheme.groups(k)
        codes = rng.integers(0, 2**scheme.bits, (n, groups * scheme.group))
        scales = rng.uniform(0.002, 0.02, (n, groups)) * rng.choice([-1, 1], (n, groups))
        return Weight.of(codes, k, scheme, scales, rng.uniform(-0.2, 0.1, (n, groups)))

    @staticmethod
    def of(
        codes: np.ndarray, k: int, scheme: Scheme, scales: np.ndarray, minimums: np.ndarray
    ) -> Weight:
        """The weight of codes (n, groups * group); of two levels, scales are rounded to them."""
        factors = []
        for exact in (scales, minimums)[: 1 + scheme.has_minimum]:
            factors += _two_levels(exact, k, scheme) if scheme.has_two_levels else [exact]
        factors = [f if f.dtype == "int8" else f.astype(scheme.dtype) for f in factors]
        if scheme.bits in (5, 6):
            planes = [_words(codes % 16, 4), _words(codes // 16, scheme.bits - 4)]
        else:
            planes = [_words(codes, scheme.bits)]
        tensors = [t if scheme.layout == "rows" else t.T for t in (*planes, *factors)]
        return Weight(scheme, tensors, codes[:, :k], factors)

    @property
    def scales(self) -> np.ndarray:
        """The scales (n, groups), in float32."""
        return self._of_groups(0)

    @property
    def minimums(self) -> np.ndarray:
        """The minimums (n, groups), in float32; zeros where there are none."""
        return self._of_groups(1) if self.scheme.has_minimum else np.zeros_like(self.scales)

    def _of_groups(self, number: int) -> np.ndarray:
        if not self.scheme.has_two_levels:
            return self.factors[number].astype("float32")
        lower, upper = (f.astype("float32") for f in self.factors[2 * number : 2 * number + 2])
        repeated = np.repeat(upper, self.scheme.super_group // self.scheme.group, axis=1)
        return lower * repeated[:, : lower.shape[1]]

    def each(self, factors: np.ndarray) -> np.ndarray:
        """Scales or minimums, one for each code."""
        repeated = np.repeat(factors, self.scheme.group, axis=1)
        return repeated[:, : self.codes.shape[1]]

    @property
    def values(self) -> np.ndarray:
        """The weights, in float32."""
        codes = (self.codes - (self.scheme.zero or 0)).astype("float32")
        return codes * self.each(self.scales) + self.each(self.minimums)

    def packed(self, machine: Machine, symbolic: bool = False) -> list[np.ndarray]:
        """The packed tensors; `symbolic`: by the kernel that takes any number of rows."""
        n, k = self.codes.shape
        blocks = -(-n // 32) * 2
        tensors = [
            np.full((blocks, *shape[1:]), 85 if dtype in ("uint8", "int8") else np.nan, dtype)
            for shape, dtype in packed_shapes(Part(n, self.scheme), k)
        ]
        machine(repack(Part(None if symbolic else n, self.scheme), k), *self.tensors, *tensors)
        return tensors

    def error_bound(self, x: np.ndarray, limit: int) -> np.ndarray:
        """Half a step of the rounded activations times the weights, and float32 roundings.

        Args:
            x: what is multiplied.
            limit: steps between 0 and the largest activation of a group (`rounding.py`).
        """
        x, weight = np.abs(x).astype("float64"), np.abs(self.values).astype("float64")
        size = self.scheme.group
        groups = [slice(g, g + size) for g in range(0, x.shape[1], size)]
        step = np.stack([x[:, g].max(1) / limit for g in groups], axis=1)
        rounding = 0.5001 * step @ np.stack([weight[:, g].sum(1) for g in groups])
        minimums = self.each(self.minimums)
        terms = np.abs(self.values - minimums) + np.abs(minimums)
        return rounding + 1e-6 * (x @ terms.T.astype("float64"))


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of some bits in words, the first in the lowest bits."""
    words = codes.reshape(len(codes), -1, 32 // bits).astype(np.uint32)
    return np.bitwise_or.reduce(words << np.arange(32 // bits, dtype=np.uint32) * bits, axis=-1)


def _two_levels(exact: np.ndarray, k: int, scheme: Scheme) -> list[np.ndarray]:
    """Factors (n, groups) as int8 times one factor for each super group."""
    span, supers = scheme.super_group // scheme.group, scheme.super_groups(k)
    padded = np.zeros((len(exact), supers * span))
    padded[:, : exact.shape[1]] = exact
    upper = np.abs(padded.reshape(len(exact), supers, span)).max(2) / 127
    lower = np.rint(padded / np.maximum(np.repeat(upper, span, axis=1), 1e-9))
    return [lower[:, : exact.shape[1]].astype("int8"), upper]


@pytest.fixture(scope="session", params=list(SCHEMES))
def scheme(request: pytest.FixtureRequest) -> Scheme:
    """Every way to store a weight in turn."""
    return SCHEMES[request.param]


@pytest.fixture
def random_weight(rng: np.random.Generator) -> Callable[[int, int, Scheme], Weight]:
    """Makes random weights of a number of rows and of columns."""
    return lambda n, k, scheme: Weight.random(rng, n, k, scheme)


@pytest.fixture(scope="session")
def weight_of() -> Callable[..., Weight]:
    """Makes the weight of given codes, scales and minimums; see `Weight.of`."""
    return Weight.of


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
