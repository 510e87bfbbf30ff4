"""Tests of the kernels that GPUs share, against NumPy, for each device that runs them.

A device's tests subclass the suites, and have two fixtures: ``run``, a
:data:`~mlc_llm.testing.gpu_kernels.suite.Run`, and ``capabilities``, the device's
:class:`~mlc_llm.compile.gpu.capabilities.GPUCapabilities`.
"""

from mlc_llm.testing.gpu_kernels.activation import GPUActivationSuite
from mlc_llm.testing.gpu_kernels.attention import GPUAttentionSuite
from mlc_llm.testing.gpu_kernels.linear import GPULinearSuite
from mlc_llm.testing.gpu_kernels.norm import GPUNormSuite

__all__ = ["GPUActivationSuite", "GPUAttentionSuite", "GPULinearSuite", "GPUNormSuite"]
