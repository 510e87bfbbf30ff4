"""GGUF files: a header, tensors of many types, a tokenizer; converted to a whole model folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from fuzz.subject import Case, Subject
from mlc_llm.convert import convert_source
from mlc_llm.sources import open_source
from mlc_llm.weights.folder import read_manifest
from mlc_llm.weights.shards import Shards

FILE = "model.gguf"
SIZE, HEADS = 32, 2

_TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a"]


class GGUFFiles(Subject):
    """One file: every tensor is read, whole and by rows, and the model is converted."""

    name = "gguf"
    share = 1.5

    def seeds(self) -> list[Case]:
        return [
            _file("Q8_0"),
            _file("Q4_1", head=True),
            _file("F16", divisors=True),
            _file("MXFP4"),
        ]

    def feed(self, folder: Path) -> None:
        source = open_source(folder / FILE)
        for tensor in source.tensors().values():
            assert tensor.read().shape == tensor.shape
            tensor.read(slice(1, 2))
        made = convert_source(folder / FILE, folder / "made")
        Shards(made, read_manifest(made)).verify()


def _file(kind: str, *, head: bool = False, divisors: bool = False) -> Case:
    """A Llama of one layer whose matrices are of one type."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        writer = gguf.GGUFWriter(path, "llama")
        _add_metadata(writer)
        _add_tokenizer(writer)
        for name, shape in _shapes(head).items():
            if len(shape) == 1:
                writer.add_tensor(name, np.ones(shape, np.float32))
            else:
                _add_matrix(writer, name, random.normal(0, 0.1, shape), kind)
        if divisors:
            writer.add_tensor(
                "rope_freqs.weight", np.linspace(1, 8, SIZE // HEADS // 2, dtype="f4")
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return {FILE: path.read_bytes()}


def _shapes(head: bool) -> dict[str, tuple[int, ...]]:
    matrices = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    table = (len(_TOKENS), SIZE)
    return {
        "token_embd.weight": table,
        **{f"blk.0.{name}.weight": (SIZE, SIZE) for name in matrices},
        **{f"blk.0.{name}_norm.weight": (SIZE,) for name in ("attn", "ffn")},
        "output_norm.weight": (SIZE,),
        **({"output.weight": table} if head else {}),
    }


def _add_matrix(writer: gguf.GGUFWriter, name: str, values: npt.NDArray[Any], kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    stored = gguf.quants.quantize(values.astype(np.float32), number)
    writer.add_tensor(name, stored, raw_dtype=number)


def _add_metadata(writer: gguf.GGUFWriter) -> None:
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(SIZE)
    writer.add_feed_forward_length(SIZE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(SIZE // HEADS)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_TOKENS)
    writer.add_token_scores([-float(index) for index in range(len(_TOKENS))])
    writer.add_token_types([2, 3, 3, *[6] * 256, 1])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
