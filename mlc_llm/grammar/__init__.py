"""Constrained output: answers that match a JSON schema, a regular expression or a grammar.

:class:`ResponseFormat` is what a request asks for, checked at once. :class:`GrammarCompiler`
compiles it for a model, and gives the constraints that :mod:`mlc_llm.runtime` follows. The work is
done by llguidance, an extra (``pip install "mlc-llm[grammar]"``), imported when it is needed.
"""

from mlc_llm.grammar.compiled import CompiledGrammar, GrammarCompiler
from mlc_llm.grammar.response_format import ResponseFormat, require_llguidance

__all__ = ["CompiledGrammar", "GrammarCompiler", "ResponseFormat", "require_llguidance"]
