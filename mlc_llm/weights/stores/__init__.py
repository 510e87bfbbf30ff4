"""The models on this machine, wherever they are kept: listed, found by name, removed."""

from mlc_llm.weights.stores.kept import KeptModel, Store
from mlc_llm.weights.stores.listing import list_models

__all__ = ["KeptModel", "Store", "list_models"]
