"""From a Hugging Face checkpoint to a model folder in MLC's format."""

from mlc_llm.convert.chat_config import gen_config
from mlc_llm.convert.weight import convert_weight

__all__ = ["convert_weight", "gen_config"]
