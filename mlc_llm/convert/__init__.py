"""From a checkpoint of any format to a model folder in MLC's format."""

from mlc_llm.convert.chat_config import gen_config
from mlc_llm.convert.weight import convert_weight
from mlc_llm.convert.whole import convert_source
from mlc_llm.convert.window_sizes import Sizes

__all__ = ["Sizes", "convert_source", "convert_weight", "gen_config"]
