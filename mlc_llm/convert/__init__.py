"""From a checkpoint of any format to a model folder in MLC's format.

The names below are imported when they are first used: a model that was converted before loads
without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_llm._lazy import lazy_names

if TYPE_CHECKING:
    from mlc_llm.convert.chat_config import gen_config
    from mlc_llm.convert.weight import convert_weight
    from mlc_llm.convert.whole import convert_source
    from mlc_llm.convert.window_sizes import Sizes

_HOMES = {
    "Sizes": "mlc_llm.convert.window_sizes",
    "convert_source": "mlc_llm.convert.whole",
    "convert_weight": "mlc_llm.convert.weight",
    "gen_config": "mlc_llm.convert.chat_config",
}

__all__ = ["Sizes", "convert_source", "convert_weight", "gen_config"]

__getattr__ = lazy_names(__name__, _HOMES)
