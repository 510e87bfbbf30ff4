"""The plain definition of the quantised layers, compiled without any kernel of ours."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.quantization.scheme import scheme

tvm = pytest.importorskip("tvm")


def _build(module: tvm.IRModule) -> tvm.runtime.Executable:
    from tvm import relax

    target = tvm.target.Target({"kind": "llvm"})
    return relax.build(module, target, relax_pipeline=relax.get_pipeline("default_build"))


@pytest.mark.parametrize("name", ["q4f32_1", "q4f16_1"])
@pytest.mark.parametrize("columns", [64, 44])
def test_linear_and_embedding_compute_with_the_dequantised_weight(name: str, columns: int) -> None:
    from tvm import relax
    from tvm.relax.frontend import nn

    from mlc_llm.model.layers import Embedding
    from mlc_llm.quantization.modules import quantize_model

    quantization = scheme(name)
    dtype = quantization.model_dtype

    class Model(nn.Module):
        def __init__(self) -> None:
            self.embedding = Embedding(24, columns, dtype=dtype)
            self.linear = nn.Linear(columns, 40, bias=False, dtype=dtype)

        def forward(self, ids: nn.Tensor) -> tuple[nn.Tensor, ...]:
            rows = self.embedding(ids)
            return rows, self.linear(rows), self.embedding.lm_head_forward(rows)

    spec = {"forward": {"ids": nn.spec.Tensor(["n"], "int32")}}
    module, named = quantize_model(Model(), quantization).export_tvm(spec)
    machine = relax.VirtualMachine(_build(module), tvm.cpu())

    rng = np.random.default_rng(0)
    table, weight = (rng.standard_normal((n, columns)).astype(np.float32) for n in (24, 40))
    stored = dict(
        zip(
            [name for name, _ in named],
            [*quantize(table, quantization), *quantize(weight, quantization)],
            strict=True,
        )
    )
    ids = np.array([3, 0, 23, 3], np.int32)
    outputs = machine["forward"](
        tvm.runtime.tensor(ids), *(tvm.runtime.tensor(value) for value in stored.values())
    )
    table, weight = (dequantize(*quantize(w, quantization), columns) for w in (table, weight))
    rows = table[ids]
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == "float16" else {"rtol": 1e-5, "atol": 1e-5}
    for got, expected in zip(outputs, (rows, rows @ weight.T, rows @ table.T), strict=True):
        np.testing.assert_allclose(got.numpy().astype(np.float32), expected, **tolerance)


def test_no_quantisation_leaves_a_model_as_it_is() -> None:
    from tvm.relax.frontend import nn

    from mlc_llm.quantization.modules import quantize_model

    linear = nn.Linear(4, 4, bias=False)
    assert quantize_model(linear, scheme("q0f32")) is linear
