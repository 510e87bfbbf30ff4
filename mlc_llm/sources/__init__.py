"""Checkpoints of every format behind one interface, :class:`mlc_llm.plugin.Source`."""

from mlc_llm.sources.locate import open_source

__all__ = ["open_source"]
