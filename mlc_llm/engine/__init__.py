"""``MLCEngine`` and ``AsyncMLCEngine``: one loaded model that serves many requests at once.

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlc_llm._lazy import lazy_names

if TYPE_CHECKING:
    from mlc_llm.engine.async_engine import AsyncMLCEngine
    from mlc_llm.engine.config import EngineConfig, Mode
    from mlc_llm.engine.metrics import EngineMetrics
    from mlc_llm.engine.sync_engine import MLCEngine

_HOMES = {
    "AsyncMLCEngine": "mlc_llm.engine.async_engine",
    "EngineConfig": "mlc_llm.engine.config",
    "EngineMetrics": "mlc_llm.engine.metrics",
    "MLCEngine": "mlc_llm.engine.sync_engine",
    "Mode": "mlc_llm.engine.config",
}

__all__ = ["AsyncMLCEngine", "EngineConfig", "EngineMetrics", "MLCEngine", "Mode"]

__getattr__ = lazy_names(__name__, _HOMES)
