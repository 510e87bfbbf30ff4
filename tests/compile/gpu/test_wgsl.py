"""Models and kernels as WGSL, compiled without a GPU: it has nothing that WGSL forbids."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import tvm
from tvm import relax

from mlc_llm.compile.build import lower
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.compile.gpu.makers import KernelMakers
from mlc_llm.model.llama import LLAMA
from mlc_llm.model.mistral import MISTRAL
from mlc_llm.plugin import Adapter, Architecture, Availability, Device, ModelSpec, Rope, Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.testing.paged_attention import describe

pytestmark = pytest.mark.matrix

LIMITS = {"max_num_threads": 128, "max_shared_memory_per_block": 16384}
"""The least that Vulkan demands of every driver."""

TARGET = {"kind": "webgpu", "target_device_type": 7, **LIMITS}
BUFFERS = 8
"""Most tensors of a kernel, which is WebGPU's default: those of a prefill with sinks."""

ATTENTION = {"attention_append", "attention_decode", "attention_prefill"}
RESERVED = set(
    "active asm attribute auto await class common delete do enum explicit export extends extern "
    "external fallthrough filter final finally from get goto groupshared handle import in inline "
    "inout instance interface layout lowp macro match meta mod module move mut mutable namespace "
    "new nil null of operator out package partition pass patch pixelfragment precise precision "
    "private protected pub public readonly ref register resource restrict self set shared sizeof "
    "smooth snorm static std super target template this throw trait try type typedef typename "
    "union unless unsafe use using varying virtual volatile where with writeonly yield".split()
)
"""Words that WGSL keeps for itself, those among them that an argument may be called."""

WIDTH = {"f32": 4, "i32": 4, "u32": 4, "f16": 2}


class Compiling(Device):
    """A device that is only compiled for."""

    name = "wgsl"

    def probe(self) -> Availability:
        return Availability((Adapter("none"),))

    def open(self, index: int) -> tvm.runtime.Device:
        raise NotImplementedError

    def target(self, index: int = 0) -> dict[str, Any]:
        return dict(TARGET)

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> GPUCodegen:
        return GPUCodegen(GPUCapabilities.of(target), opt)


SMALL = {
    "hidden_size": 68,  # rows end in the middle of a word and of a group of codes
    "intermediate_size": 100,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-5,
    "head_dim": 24,
    "vocab_size": 300,
    "context_window_size": 64,
}

MODELS: dict[str, tuple[Architecture, dict[str, Any]]] = {
    "llama": (LLAMA, SMALL),
    "llama, tied, wide heads": (LLAMA, {**SMALL, "tie_word_embeddings": True, "head_dim": 256}),
    "mistral": (MISTRAL, {**SMALL, "sliding_window_size": 21, "attention_sink_size": 4}),
}
CASES = [
    *(("llama", quantization) for quantization in ("q0f16", "q0f32", "q4f16_1", "q4f32_1")),
    ("llama, tied, wide heads", "q4f16_1"),
    ("mistral", "q4f32_1"),
]

DTYPES = {"f16": "float16", "f32": "float32"}
ROPE = Rope((1.0, 0.1, 0.01), factor=1.2)
SPECS = {
    "plain": describe((4, 2), 24),
    "window, sink and sink logits": describe(
        (4, 2), 24, rope=ROPE, window=21, sink=4, sink_logits=True
    ),
    "soft cap": describe((3, 1), 8, rope=replace(ROPE, interleaved=True), soft_cap=50.0),
    "keys of another layer": describe((4, 2), 8, value_size=24, rope=ROPE, keys_of=0),
    "wide heads": describe((32, 2), 256, value_size=512, sink_logits=True),
}
"""Descriptions of attention that only some models have."""

SCHEMES = {
    "rows": {"zero": 7},
    "columns": {"zero": 7, "layout": "columns"},
    "minimum": {},
    "8 bits": {"bits": 8, "zero": 127, "group": 16},
    "3 bits": {"bits": 3, "zero": 3, "group": 40},
    "5 bits with a minimum": {"bits": 5},
    "6 bits": {"bits": 6, "zero": 32, "group": 16},
}
"""Weights, each of 4 bits in groups of 32 unless it says otherwise."""

LIBRARIES = [
    *CASES,
    *((name, dtype) for name in (*SPECS, *SCHEMES, "norms", "activations") for dtype in DTYPES),
]
"""A model and its quantisation, or some kernels and their dtype."""


@dataclass(frozen=True)
class Kernel:
    """One kernel's WGSL."""

    name: str
    source: str

    @property
    def buffers(self) -> list[str]:
        """The element types of its tensors."""
        return re.findall(r"var<storage, \w+> \w+ : array<(\w+)>;", self.source)

    @property
    def shared_bytes(self) -> int:
        """Bytes of its workgroup memory."""
        found = re.findall(r"var<workgroup> \w+ : array<(\w+), (\d+)>;", self.source)
        return sum(WIDTH[dtype] * int(count) for dtype, count in found)

    @property
    def threads(self) -> int:
        """Threads of its workgroup."""
        (sizes,) = re.findall(r"@workgroup_size\((\d+), (\d+), (\d+)\)", self.source)
        return math.prod(map(int, sizes))


@functools.cache
def lowered(name: str, quantization: str) -> tvm.IRModule:
    """The module of a model, all passes run."""
    architecture, fields = MODELS[name]
    shape = architecture.config(fields).shape()
    spec = ModelSpec(architecture=architecture.name, shape=shape, plan=PLANS[quantization])
    return lower(spec, architecture, Compiling(), TARGET)


@functools.cache
def kernels(name: str, kind: str) -> list[Kernel]:
    """All kernels of one of the libraries."""
    target = tvm.target.Target(TARGET, host={"kind": "llvm"})
    if name in MODELS:
        (host,) = relax.build(lowered(name, kind), target=target, relax_pipeline=None).mod.imports
    else:
        named = {str(f.attrs["global_symbol"]): f for f in functions(name, DTYPES[kind])}
        host = tvm.compile(tvm.IRModule(named), target).mod
    (device,) = host.imports
    parts = re.split(r"// Function: (\w+)\n", device.inspect_source())[1:]
    sources = dict(zip(parts[::2], parts[1::2], strict=True))
    return [Kernel(name, source) for name, source in sources.items() if "@compute" in source]


def functions(name: str, dtype: str) -> list[tvm.tirx.PrimFunc]:
    """The kernels that are no model's."""
    make, gpu = KernelMakers(), GPUCapabilities.of(TARGET)
    if name in SPECS:
        made = GPUCodegen(gpu, {}).attention(SPECS[name], dtype, dtype)
        return [kernel for kernel in vars(made).values() if kernel is not None]
    if name == "norms":
        heads = describe((4, 2), 24, value_size=20)
        return [
            make.rms_norm(70, 1e-5, True, dtype, dtype, gpu),
            make.layer_norm(70, 1e-5, dtype, dtype, dtype, gpu),
            make.head_norm(heads, 1e-5, True, dtype, dtype, gpu),
        ]
    if name == "activations":
        makers = (make.activation, make.gated)
        return [maker(function, 70, dtype, gpu) for function in FUNCTIONS for maker in makers]
    scheme: dict[str, Any] = {"bits": 4, "group": 32, "dtype": dtype, **SCHEMES[name]}
    weight = weight_of(Scheme(**scheme), 70)
    products = [
        Product(weight, None, dtype, dtype, bias=dtype, **more)
        for more in ({}, {"gate": "gelu"}, {"residual": True})
    ]
    made_of = [make_one(one, gpu) for one in products for make_one in (make.gemv, make.matmul)]
    return [*made_of, make.embedding(weight, dtype, gpu)]


@pytest.mark.parametrize(("name", "kind"), LIBRARIES)
def test_kernels_keep_to_what_shading_languages_have(name: str, kind: str) -> None:
    float16 = "f16" in kind
    for kernel in kernels(name, kind):
        assert set(kernel.buffers) <= {"f32", "i32", "u32", *(["f16"] if float16 else [])}
        assert not re.search(r"\b[iu](64|8)\b|\bbool\b|subgroup", kernel.source), kernel.name
        assert float16 or "f16" not in kernel.source, kernel.name


@pytest.mark.parametrize(("name", "kind"), LIBRARIES)
def test_no_name_is_a_reserved_word(name: str, kind: str) -> None:
    for kernel in kernels(name, kind):
        names = set(re.findall(r"\b([A-Za-z_]\w*) ?:", kernel.source))
        assert names
        assert not names & RESERVED, kernel.name


@pytest.mark.parametrize(("name", "kind"), LIBRARIES)
def test_kernels_keep_to_the_limits(name: str, kind: str) -> None:
    for kernel in kernels(name, kind):
        assert 1 <= len(kernel.buffers) <= BUFFERS, kernel.name
        assert kernel.shared_bytes <= LIMITS["max_shared_memory_per_block"], kernel.name
        assert kernel.threads <= LIMITS["max_num_threads"], kernel.name


def test_the_kernels_of_attention_are_there() -> None:
    def names(name: str, kind: str) -> set[str]:
        return {kernel.name.removesuffix("_kernel") for kernel in kernels(name, kind)}

    assert names("llama", "q4f16_1") >= ATTENTION
    assert names("plain", "f16") == ATTENTION
    sharing = ATTENTION - {"attention_append"} | {"attention_rotate"}
    assert names("keys of another layer", "f16") == sharing


@pytest.mark.parametrize("quantization", ["q4f16_1", "q4f32_1"])
def test_no_quantised_weight_becomes_a_tensor_of_floats(quantization: str) -> None:
    """Codes are read as stored by the kernels that multiply, and by nothing else."""
    readers = {kernel.name for kernel in kernels("llama", quantization) if "u32" in kernel.buffers}
    assert readers
    assert all(re.match("(gemv|matmul|embedding)", name) for name in readers)


def calls(name: str, quantization: str, function: str) -> Counter[str]:
    """How often a function of the library calls what, without numbers in names."""
    found: Counter[str] = Counter()

    def visit(node: object) -> None:
        if isinstance(node, relax.Call) and isinstance(node.op, tvm.ir.GlobalVar):
            found[re.sub(r"\d+$", "", node.op.name_hint)] += 1

    relax.analysis.post_order_visit(lowered(name, quantization)[function], visit)
    return found


def test_one_row_is_multiplied_by_the_kernel_for_one_row() -> None:
    decode, score = (calls("llama", "q4f16_1", name) for name in ("decode", "score"))
    linears = 4 * SMALL["num_hidden_layers"] + 1
    assert decode["gemv"] == linears
    assert "matmul" not in decode
    assert score["matmul"] == linears
    assert "gemv" not in score
