"""Which weights ``q4f16_k`` stores finer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlc_llm.model.finer_weights import FINER, with_finer_weights
from mlc_llm.model.llama import LLAMA
from mlc_llm.model.stored import stored_parameters
from mlc_llm.plugin import Scheme
from mlc_llm.quantization import PLANS, plan
from mlc_llm.registry.registry import default_registry

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
LAYOUTS = {"gemma3_text": "gemma3"}
"""Names of the files with families' configurations, where they differ."""
FIVE_BITS = Scheme(5, "float16", group=32, super_group=256)


@pytest.mark.parametrize("tied", [True, False])
def test_values_down_projections_and_the_head(tied: bool) -> None:
    module = LLAMA.module(LLAMA.config({**CONFIG, "tie_word_embeddings": tied}))
    base = plan(FINER)
    finer = with_finer_weights(base, module)
    four, eight = base.linear, base.embedding
    expected = {"lm_head.weight": (eight,)} if not tied else {}
    for layer in range(2):
        expected[f"model.layers.{layer}.self_attn.qkv_proj.weight"] = (four, four, FIVE_BITS)
        expected[f"model.layers.{layer}.mlp.down_proj.weight"] = (FIVE_BITS,)
    assert finer.exceptions == expected
    names = {tensor.name for tensor in stored_parameters(module, finer)}
    values = "model.layers.0.self_attn.qkv_proj.2"
    assert {f"{values}.q_high", f"{values}.q_super_min"} <= names


@pytest.mark.parametrize("family", default_registry().names("architecture"))
def test_each_layer_of_each_family_has_some(family: str, test_data: Path) -> None:
    """What leads out of a feed-forward block always; values where a checkpoint has them apart."""
    layout = LAYOUTS.get(family, family)
    file = test_data / "families" / f"{layout}.json"
    if not file.exists():
        pytest.skip("there is no configuration of this family")
    architecture = default_registry().architecture(family)
    config = architecture.config(
        next(iter(json.loads(file.read_text())["models"].values()))["config"]
    )
    finer = with_finer_weights(plan(FINER), architecture.module(config)).exceptions
    count = sum(schemes[-1] == FIVE_BITS for schemes in finer.values())
    assert count in (config.num_hidden_layers, 2 * config.num_hidden_layers)


def test_other_plans_stay_as_they_are() -> None:
    module = LLAMA.module(LLAMA.config(CONFIG))
    for name in PLANS.keys() - {FINER}:
        assert with_finer_weights(plan(name), module) is plan(name)
    own = plan(FINER).model_copy(update={"exceptions": {"lm_head.weight": (FIVE_BITS,)}})
    assert with_finer_weights(own, module) is own
