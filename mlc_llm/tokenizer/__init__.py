"""Text to token ids and back, one token at a time where text is streamed."""

from mlc_llm.tokenizer.base import Tokenizer, beyond_vocabulary
from mlc_llm.tokenizer.detokenizer import Detokenizer
from mlc_llm.tokenizer.load import load_tokenizer
from mlc_llm.tokenizer.prompt import PromptTokens
from mlc_llm.tokenizer.stop import StopText

__all__ = [
    "Detokenizer",
    "PromptTokens",
    "StopText",
    "Tokenizer",
    "beyond_vocabulary",
    "load_tokenizer",
]
