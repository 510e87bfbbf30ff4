"""Checkpoints of models that also see pictures: the part that reads and writes text.

Hugging Face's ``config.json`` has that part's fields in an object of their own. The names of its
tensors begin with ``language_model.``, or with ``model.language_model.`` where transformers 5 wrote
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_VISION = ("vision_tower.", "multi_modal_projector.")


def text_config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config with the fields of its text part among the others; any other one as it is."""
    text = data.get("text_config")
    if not isinstance(text, Mapping):
        return data
    others = {name: value for name, value in data.items() if name != "text_config"}
    return {**others, **text, "model_type": data.get("model_type")}


def text_name(name: str) -> str:
    """The name that a tensor has in a checkpoint of the text part alone."""
    if name.startswith("model.language_model."):
        return "model." + name.removeprefix("model.language_model.")
    return name.removeprefix("language_model.")


def is_of_vision(name: str) -> bool:
    """Whether a tensor belongs to what sees pictures and hands them to the text part."""
    return name.removeprefix("model.").startswith(_VISION)
