"""Large language models on the device you have, compiled with Apache TVM.

The names below are imported when they are first used, so that ``import mlc_llm`` costs nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlc_llm._lazy import lazy_names
from mlc_llm.version import __version__

if TYPE_CHECKING:
    from mlc_llm.chat.saving import RestoredChat, SavedChat
    from mlc_llm.chat.streams import StreamChunk
    from mlc_llm.chat_module import ChatModule
    from mlc_llm.compile import compile_model
    from mlc_llm.config import ChatConfig, ConvConfig, GenerationConfig
    from mlc_llm.convert import convert_source, convert_weight, gen_config
    from mlc_llm.engine import AsyncMLCEngine, EngineConfig, EngineMetrics, MLCEngine
    from mlc_llm.runtime.answer import GenerationResult
    from mlc_llm.runtime.logprobs import TokenLogprob
    from mlc_llm.runtime.statistics import Metrics

# A program that sets up no logging hears nothing, warnings included.
logging.getLogger("mlc_llm").addHandler(logging.NullHandler())

_HOMES = {
    "AsyncMLCEngine": "mlc_llm.engine",
    "ChatModule": "mlc_llm.chat_module",
    "ChatConfig": "mlc_llm.config",
    "ConvConfig": "mlc_llm.config",
    "EngineConfig": "mlc_llm.engine",
    "EngineMetrics": "mlc_llm.engine",
    "GenerationConfig": "mlc_llm.config",
    "GenerationResult": "mlc_llm.runtime.answer",
    "MLCEngine": "mlc_llm.engine",
    "Metrics": "mlc_llm.runtime.statistics",
    "RestoredChat": "mlc_llm.chat.saving",
    "SavedChat": "mlc_llm.chat.saving",
    "StreamChunk": "mlc_llm.chat.streams",
    "TokenLogprob": "mlc_llm.runtime.logprobs",
    "compile_model": "mlc_llm.compile",
    "convert_source": "mlc_llm.convert",
    "convert_weight": "mlc_llm.convert",
    "gen_config": "mlc_llm.convert",
}

__all__ = [
    "AsyncMLCEngine",
    "ChatConfig",
    "ChatModule",
    "ConvConfig",
    "EngineConfig",
    "EngineMetrics",
    "GenerationConfig",
    "GenerationResult",
    "MLCEngine",
    "Metrics",
    "RestoredChat",
    "SavedChat",
    "StreamChunk",
    "TokenLogprob",
    "__version__",
    "compile_model",
    "convert_source",
    "convert_weight",
    "gen_config",
]


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
