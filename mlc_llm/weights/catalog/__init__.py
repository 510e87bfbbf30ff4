"""Short names of models: looked up in the catalogues of plugins, and fetched."""

from mlc_llm.weights.catalog.lookup import Named, catalogued, find
from mlc_llm.weights.catalog.obtain import obtain, present

__all__ = ["Named", "catalogued", "find", "obtain", "present"]
