"""Weights that stay as they are stored: their plan, and codes whose rows an architecture orders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.convert import convert_weight
from mlc_llm.errors import ConversionError
from mlc_llm.model.llama import Llama
from mlc_llm.model.weights import grouped_qkv
from mlc_llm.plugin import Codes, Scheme, Source, SourceFormat, SourceTensor, Weight
from mlc_llm.quantization.codes import unpack_codes
from mlc_llm.quantization.packing import dequantize
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import make_checkpoint, raises, registry_of
from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards

HEADS, KV_HEADS, HEAD_DIM = 4, 2, 16
HIDDEN = HEADS * HEAD_DIM
SCHEME = Scheme(4, "float16", 32, zero=8)
QKV = "model.layers.0.self_attn.qkv_proj.weight"


class CodedTensor(SourceTensor):
    """Random codes of 4 bits, or values where no scheme is given."""

    def __init__(self, name: str, shape: tuple[int, ...], scheme: Scheme | None) -> None:
        random = np.random.default_rng(sum(map(ord, name)))
        self.name, self.shape, self.dtype, self.file = name, shape, "Q4_TEST", Path("coded")
        self.nbytes = int(np.prod(shape))
        self._scheme = scheme
        self.codes = random.integers(0, 16, shape, np.uint8)
        self.scales = random.normal(0, 0.1, (*shape[:-1], -(-shape[-1] // 32))).astype(np.float16)

    @property
    def scheme(self) -> Scheme | None:
        return self._scheme

    def require_readable(self) -> None:
        pass

    def read(self, rows: Any = ...) -> Any:
        if len(self.shape) == 1:
            return np.ones(self.shape, np.float32)[rows]
        scales = np.repeat(self.scales, 32, axis=1)[:, : self.shape[1]].astype(np.float32)
        return ((self.codes.astype(np.float32) - 8) * scales)[rows]

    def read_codes(self, rows: Any = ...) -> Codes:
        return Codes(self.codes[rows], (self.scales[rows],))


class CodedSource(Source):
    """A checkpoint whose queries, keys and values stand in one tensor, in groups of heads."""

    path = Path("coded")
    chat_template = None
    keeps_types = True

    def __init__(self, config: dict[str, Any], schemes: dict[str, Scheme | None]) -> None:
        self.config, self.generation_config, self._schemes = config, {}, schemes

    def tensors(self) -> dict[str, SourceTensor]:
        layer, rows = "model.layers.0", (HEADS + 2 * KV_HEADS) * HEAD_DIM
        ffn = self.config["intermediate_size"]
        shapes = {
            "model.embed_tokens.weight": (self.config["vocab_size"], HIDDEN),
            QKV: (rows, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.mlp.gate_proj.weight": (ffn, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (ffn, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, ffn),
            f"{layer}.input_layernorm.weight": (HIDDEN,),
            f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
            "model.norm.weight": (HIDDEN,),
            "lm_head.weight": (self.config["vocab_size"], HIDDEN),
        }
        return {
            name: CodedTensor(name, shape, self._schemes.get(name, SCHEME))
            for name, shape in shapes.items()
        }

    def tokenizer_files(self) -> dict[str, bytes]:
        return {}


class CodedFormat(SourceFormat):
    name = "coded"
    order = 1
    description = "a test"

    def __init__(self, source: Source) -> None:
        self.source = source

    def recognizes(self, path: Path) -> bool:
        return True

    def open(self, path: Path, architectures: Any) -> Source:
        return self.source


class Grouped(Llama):
    """Llama whose checkpoints have queries, keys and values in groups; ``make`` orders them."""

    name = "grouped"

    def __init__(self, make: Any = None, *, orders_rows: bool = True) -> None:
        self.make = make or grouped_qkv(KV_HEADS, HEADS // KV_HEADS, HEAD_DIM)
        self.orders_rows = orders_rows

    def weights(self, config: Any) -> list[Weight]:
        return [
            Weight(QKV, (QKV,), self.make, self.orders_rows) if weight.name == QKV else weight
            for weight in super().weights(config)
        ]


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    sizes = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "num_hidden_layers": 1,
    }
    folder = make_checkpoint(tmp_path / "checkpoint", **sizes)
    data: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return {**data, "model_type": "grouped", "head_dim": HEAD_DIM}


def convert(
    tmp_path: Path,
    source: CodedSource,
    architecture: Grouped | None = None,
) -> Path:
    registry: Registry = registry_of(
        sources={"coded": CodedFormat(source)},
        architectures={"grouped": architecture or Grouped()},
    )
    return convert_weight(tmp_path, None, tmp_path / "out", registry=registry)


def read(folder: Path, *names: str) -> list[Any]:
    """Tensors of the folder's weights, which has nothing else."""
    manifest = read_manifest(folder)
    shards = Shards(folder, manifest)
    return [shards.read(manifest.tensors[name]) for name in names]


def test_codes_whose_rows_are_ordered(tmp_path: Path, config: dict[str, Any]) -> None:
    source = CodedSource(config, {})
    stem = QKV.removesuffix(".weight")
    words, scales = read(convert(tmp_path, source), f"{stem}.q_weight", f"{stem}.q_scale")
    tensor = source.tensors()[QKV]
    assert isinstance(tensor, CodedTensor)
    order = Grouped().make(np.arange(tensor.shape[0]))
    np.testing.assert_array_equal(unpack_codes([words], HIDDEN, SCHEME), tensor.codes[order])
    np.testing.assert_array_equal(scales, tensor.scales[order])
    np.testing.assert_array_equal(dequantize([words, scales], HIDDEN, SCHEME), tensor.read()[order])


def test_codes_that_a_function_computes_with_become_floats(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    order = Grouped().make
    doubled = Grouped(lambda w: 2 * order(w), orders_rows=False)
    source = CodedSource(config, {})
    out = convert(tmp_path, source, doubled)
    [found] = read(out, QKV)
    wanted = 2 * order(source.tensors()[QKV].read())
    np.testing.assert_array_equal(found, wanted.astype(np.float16))


@pytest.mark.parametrize("make", [lambda w: w[:5], lambda w: w[999]])
def test_a_plugin_that_orders_wrongly(tmp_path: Path, config: dict[str, Any], make: Any) -> None:
    with raises("architecture-invalid", QKV, "'grouped'", error=ConversionError):
        convert(tmp_path, CodedSource(config, {}), Grouped(make))
    assert not (tmp_path / "out").exists()
