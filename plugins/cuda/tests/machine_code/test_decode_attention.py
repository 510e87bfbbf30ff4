"""The machine code of attention of single tokens: registers, spills, and the widths of loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlc_llm_cuda import DEVICE
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import decode_attention

from benchmarks.gpu.machine_code import Compiler
from mlc_llm.plugin import AttentionSpec
from mlc_llm.testing.paged_attention import describe

pytestmark = pytest.mark.usefixtures("wheels")

CAPABILITIES = capabilities_of(DEVICE.target_for(["80", "90"]))
THREADS, REGISTERS, SHARED = 256, 65536, 164 * 1024
"""Threads of a block, registers and shared memory of a multiprocessor of an A100."""
IN_FLIGHT = 32 * 1024
"""Bytes that a multiprocessor must have asked for at any time: twice what an H100 needs."""

LAYERS: dict[str, AttentionSpec] = {
    "Llama 3.1 8B": describe((32, 8), 128),
    "Llama 2 7B": describe((32, 32), 128),
    "Gemma 2": describe((8, 4), 256, soft_cap=50.0),
    "GPT-OSS": describe((64, 8), 64, window=128, sink_logits=True),
    "TinyLlama": describe((32, 4), 64),
    "Qwen3 0.6B": describe((16, 8), 128),
    "Llama 3.1 405B": describe((128, 8), 128),
    "wide keys": describe((16, 16), 192, value_size=128),
}


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * (i > 0)) for i, k in enumerate(LAYERS)]
)
def test_enough_is_on_its_way(name: str, compiler: Compiler, tmp_path: Path) -> None:
    """Registers hold everything, and leave room for blocks that keep the memory busy."""
    spec = LAYERS[name]
    kernel = decode_attention.decode(spec, "float16", "float16", CAPABILITIES)
    made = compiler.kernel(kernel, tmp_path)
    assert len(made) == 2 * 2  # Two launches, for two architectures.
    for key, code in made.items():
        print(*key, code)
        assert code.spilled == 0
        assert not {kind for kind in code.instructions if kind in ("LDG.8", "LDG.16")}
        if "HMMA" not in code.instructions:
            assert code.registers <= 64
            continue
        copies = {kind for kind in code.instructions if kind.startswith("LDGSTS")}
        assert copies == {"LDGSTS.128"}
        # Each warp has two parts of up to 128 elements of 16 keys under way, of keys or of values.
        memory = decode_attention.shared_bytes(spec)
        blocks = min(
            REGISTERS // (THREADS * -(-code.registers // 8) * 8), SHARED // (memory + 1024)
        )
        elements = min(spec.key_size, 128) + min(spec.value_size, 128)
        assert blocks * THREADS // 32 * elements * 16 * 2 >= IN_FLIGHT
