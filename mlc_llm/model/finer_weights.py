"""The weights that a plan stores finer than the others of a model, since errors in them cost most.

``q4f16_k`` has 4 bits for most matrices, 5 for what makes values and for what leads out of the
feed-forward blocks, and 8 for embeddings and the head, whose rows are looked up or decide alone.
That value and down projections matter most is what GGUF's mixed types go by, too. Here they have 5
bits in all layers, which loses less than 6 or 8 bits in half of them at the same size
(``benchmarks/RESULTS.md`` has the figures).
"""

from __future__ import annotations

from mlc_llm.model.layers import Linear
from mlc_llm.model.module import Module, computes_as, named_modules
from mlc_llm.plugin.scheme import Plan, Scheme

FINER = "q4f16_k"
"""The name of the plan that stores some weights finer."""

FINER_SCHEME = Scheme(5, "float16", group=32, super_group=256)
"""How it stores them, but for embeddings and the head."""

_VALUES = "v_proj"
"""What makes values where that is a layer by itself; else it is the last part of three."""
_OUT_OF_FEED_FORWARD = ("down_proj", "mlp.fc2", "mlp.c_proj", "dense_4h_to_h", "feed_forward.w2")
"""What the names of layers end with that lead out of a feed-forward block."""


def with_finer_weights(plan: Plan, module: Module) -> Plan:
    """A plan with what it stores finer of a model; another plan, or one with exceptions, as it is.

    Args:
        plan: how the weights are stored.
        module: the model.
    """
    if plan.name != FINER or plan.exceptions:
        return plan
    exceptions: dict[str, tuple[Scheme, ...]] = {}
    for name, layer in named_modules(module):
        if not computes_as(layer, Linear):
            continue
        if len(layer.parts) == 3:
            exceptions[f"{name}.weight"] = (plan.linear, plan.linear, FINER_SCHEME)
        elif name.endswith((_VALUES, *_OUT_OF_FEED_FORWARD)):
            exceptions[f"{name}.weight"] = (FINER_SCHEME,)
        elif layer.out_features == "vocab_size":
            exceptions[f"{name}.weight"] = (plan.embedding,)
    return plan.model_copy(update={"exceptions": exceptions})
