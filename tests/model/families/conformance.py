"""What is tested of each family: against transformers, and against MLC's published layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from mlc_llm.convert import convert_source
from mlc_llm.device.cpu import CPU
from mlc_llm.model.stored import stored_parameters
from mlc_llm.quantization import plan
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.sequence import CachedSequence, Run
from mlc_llm.testing import ArchitectureConformance
from mlc_llm.testing.model_folder import write_byte_tokenizer
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.workbench import PREFILL_CHUNK, Workbench, largest_error, prompt
from mlc_llm.weights.folder import ModelFolder

from .gguf_layout import GGUFLayout

Fields = dict[str, Any]

SIZES: Fields = {
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Fields of a small model, under the names that most families have for them."""

VISION: Fields = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
    "image_size": 32,
    "patch_size": 16,
}
"""The ``vision_config`` of a small model that sees, whose text part is compared."""

PROMPT, GREEDY = 3 * PREFILL_CHUNK + 2, 100
"""Tokens of a prompt that takes several chunks, and of the answer to it."""


def make_random(path: Path, model_type: str, fields: Fields, seed: int = 0) -> Path:
    """A checkpoint that transformers writes, with random weights in float32."""
    import torch
    import transformers

    config = transformers.AutoConfig.for_model(model_type, **fields)
    sees = "vision_config" in fields
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    torch.manual_seed(seed)
    model = auto.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():  # biases, too, which would be zero
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(path)
    write_byte_tokenizer(path / "tokenizer.json", model.config.get_text_config().vocab_size)
    return path


def older(data: Fields, base: str = "rope_theta") -> Fields:
    """A config of transformers 5 as 4 wrote it: plain RoPE beside the others, no types of layers.

    Args:
        data: what ``config.json`` says.
        base: the name of RoPE's base; MLC has another one.
    """
    rope = dict(data["rope_parameters"])
    assert rope.pop("rope_type") == "default"
    others = {name: data[name] for name in data if name not in ("rope_parameters", "layer_types")}
    return {**others, base: rope.pop("rope_theta"), **rope}


class TransformersModel:
    """A checkpoint as transformers computes it, in float32 and without kernels of its own."""

    def __init__(self, checkpoint: Path) -> None:
        import torch
        import transformers

        self._torch = torch
        (name,) = transformers.AutoConfig.from_pretrained(checkpoint).architectures
        self._model = getattr(transformers, name).from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation="eager"
        )
        self._model.eval()

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """The logits after the last of some tokens."""
        with self._torch.no_grad():
            return self._model(self._torch.tensor([list(ids)])).logits[0, -1].numpy()

    def answer(self, ids: Sequence[int], count: int) -> list[int]:
        """The greedy answer to a prompt, without an end."""
        given = self._torch.tensor([list(ids)])
        made = self._model.generate(
            given,
            attention_mask=self._torch.ones_like(given),
            do_sample=False,
            max_new_tokens=count,
            min_new_tokens=count,
            eos_token_id=None,
        )
        return made[0, len(ids) :].tolist()


class FamilyConformance(ArchitectureConformance):
    """Tests of a built-in family. Subclass it and set the attributes.

    The first variant is the one that the tests of :class:`ArchitectureConformance` take. Others are
    slow, since each is a library to compile.
    """

    variants: ClassVar[dict[str, Fields]]
    """Fields of ``config.json`` beside :data:`SIZES`, by a name; None leaves one of those out."""

    layout: ClassVar[str | None]
    """The file with MLC's layout of the family; None where MLC has none."""

    refused: ClassVar[dict[str, tuple[Fields, str]]] = {}
    """Fields that would be computed wrongly, and what the error says, by a name."""

    model_type: ClassVar[str | None] = None
    """transformers' name where it is another one."""

    gguf: ClassVar[GGUFLayout | None] = None
    """What llama.cpp's converter does to its checkpoints; None where no GGUF files are read."""

    gguf_variant: ClassVar[str | None] = None
    """The variant that is written as a GGUF file; the first one by default."""

    @pytest.fixture
    def checkpoint(self, workbench: Workbench) -> Path:
        return self.variant(workbench, next(iter(self.variants)))

    @pytest.fixture
    def reference(self, checkpoint: Path) -> Logits:
        return self.transformers_model(checkpoint).logits

    def fields(self, name: str) -> Fields:
        """What a variant's configuration is made of."""
        variant = self.variants[name]
        if "text_config" in variant:
            return {**variant, "text_config": {**SIZES, **variant["text_config"]}}
        return {key: value for key, value in {**SIZES, **variant}.items() if value is not None}

    def make(self, path: Path, fields: Fields) -> None:
        """Make a checkpoint of some fields."""
        model_type = fields.pop("model_type", self.model_type or self.architecture.name)
        make_random(path, model_type, fields)

    def transformers_model(self, checkpoint: Path) -> TransformersModel:
        """The model that such a checkpoint is compared with."""
        return TransformersModel(checkpoint)

    def variant(self, workbench: Workbench, name: str) -> Path:
        """The checkpoint of a variant, made once."""
        pytest.importorskip("transformers")
        path = workbench.folder / f"{self.architecture.name}-{name}"
        if not path.is_dir():
            self.make(path, self.fields(name))
        return path

    def test_variant(self, variant: str, workbench: Workbench) -> None:
        """Logits, and a greedy answer that goes past chunks, pages and windows."""
        checkpoint = self.variant(workbench, variant)
        reference = self.transformers_model(checkpoint)
        folder = workbench.convert(checkpoint, "q0f32", self.architecture)
        model = workbench.load(folder, self.architecture, self.device)
        error, place = largest_error(model, reference.logits)
        assert error <= self.tolerance, f"a logit is off by {error:.2g}, {place}"
        ids = prompt(PROMPT, model.vocab_size)
        logits, found = model.feed(ids), []
        for _ in range(GREEDY):
            found.append(int(np.argmax(logits)))
            logits = model.decode(found[-1])
        assert found == reference.answer(ids, GREEDY)

    def test_two_sequences(self, checkpoint: Path, workbench: Workbench) -> None:
        """Each gives the bits that it gives alone."""
        folder = workbench.convert(checkpoint, "q0f32", self.architecture)
        both = TwoSequences(folder, workbench.library(folder, self.architecture, CPU))
        prompts = [prompt(PROMPT, both.vocab_size), prompt(5, both.vocab_size, seed=1)]
        alone = [both.answers([one])[0] for one in prompts]
        for one, together in zip(alone, both.answers(prompts), strict=True):
            np.testing.assert_array_equal(one, together)

    @pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1", "q3f16_1"])
    def test_parameters_are_those_of_mlc(self, test_data: Path, quantization: str) -> None:
        """Names, shapes, dtypes and order of every model that MLC's layout is known of."""
        if self.layout is None:
            pytest.skip("MLC has no such family")
        models = json.loads((test_data / "families" / f"{self.layout}.json").read_text())["models"]
        assert models
        for name, model in models.items():
            config = self.architecture.config(model["config"])
            stored = stored_parameters(self.architecture.module(config), plan(quantization))
            found = [(one.name, list(one.shape), one.dtype) for one in stored]
            wanted = layout_parameters(model[quantization]["parameters"])
            # The size that compiled code leaves open; some of the files have it as a number.
            sizes = {config.vocab_size: "vocab_size"}
            wanted = [
                (one, [sizes.get(n, n) for n in shape], dtype) for one, shape, dtype in wanted
            ]
            assert found == wanted, name

    @pytest.mark.slow
    def test_a_gguf_file(self, workbench: Workbench, tmp_path: Path) -> None:
        """The logits of a file in float32 are those of the checkpoint that it was made of."""
        if self.gguf is None:
            assert self.architecture.gguf is None, "GGUF files are read, and not tested"
            pytest.skip("no GGUF files of this family are read")
        checkpoint = self.variant(workbench, self.gguf_variant or next(iter(self.variants)))
        file = self.gguf.write(tmp_path / "model.gguf", checkpoint)
        folder = convert_source(file, tmp_path / "out", quantization="q0f32", conv_template="LM")
        model = workbench.load(folder, self.architecture, self.device)
        error, place = largest_error(model, self.transformers_model(checkpoint).logits)
        assert error <= self.tolerance, f"a logit is off by {error:.2g}, {place}"

    def test_refuses(self, refusal: str, data: Fields) -> None:
        """What would be computed wrongly is refused by name."""
        fields, message = self.refused[refusal]
        with pytest.raises(ValueError, match=message):
            self.architecture.config({**data, **fields})


class TwoSequences:
    """A compiled model and a cache for two sequences."""

    def __init__(self, folder: Path, library: Path) -> None:
        import tvm

        opened, compiled = ModelFolder.open(folder), CompiledLibrary(library, tvm.cpu())
        parameters = load_parameters(compiled, opened, tvm.cpu(), Stop())
        self.vocab_size = opened.config.vocab_size
        self._functions = ModelFunctions(compiled, parameters, tvm.cpu(), self.vocab_size)
        self._new_cache = partial(KVCache, compiled.metadata.kv_cache, 128, 256, tvm.cpu(), 2)

    def answers(self, prompts: Sequence[list[int]], count: int = 20) -> list[np.ndarray]:
        """The logits (count, vocab_size) of greedy answers to prompts, all in the same passes."""
        cache = self._new_cache()
        self._functions.use(cache)
        held = [cache.add() for _ in prompts]
        self._functions.prefill([Run(s, ids[:-1]) for s, ids in zip(held, prompts, strict=True)])
        tokens, rows = [ids[-1] for ids in prompts], []
        for _ in range(count):
            rows.append(self._decode(held, tokens))
            tokens = rows[-1].argmax(axis=1).tolist()
        return list(np.stack(rows, axis=1))

    def _decode(self, held: Sequence[CachedSequence], tokens: Sequence[int]) -> np.ndarray:
        runs = [Run(one, (token,)) for one, token in zip(held, tokens, strict=True)]
        return self._functions.decode(runs).copy()


def layout_parameters(described: list[list[Any]]) -> list[tuple[str, list[Any], str]]:
    """The parameters that a file of MLC's layouts describes, layer by layer."""
    parameters = []
    begin = 0
    while begin < len(described):
        end = begin + 1
        if len(described[begin]) == 3:
            parameters.append(tuple(described[begin]))
        else:
            while end < len(described) and described[end][3:] == described[begin][3:]:
                end += 1
            first, last = map(int, described[begin][3].split(".."))
            parameters += [
                (name.format(i=index), shape, dtype)
                for index in range(first, last + 1)
                for name, shape, dtype, _ in described[begin:end]
            ]
        begin = end
    return parameters
