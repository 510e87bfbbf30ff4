"""Quantisation: the schemes, the packing of weights, and the layers that compute with them.

Only :mod:`mlc_llm.quantization.modules` imports TVM.
"""

from mlc_llm.quantization.scheme import QUANTIZATIONS, Scheme, scheme

__all__ = ["QUANTIZATIONS", "Scheme", "scheme"]
