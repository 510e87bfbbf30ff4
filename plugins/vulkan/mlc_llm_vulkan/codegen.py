"""Vulkan's compiler half: the kernels that GPUs share, as WGSL.

TVM's generator for WebGPU makes the text. It knows no int64, int8 or bool tensors, which the shared
kernels do without; sampling is the host's, as for every device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen


class VulkanCodegen(GPUCodegen):
    """Compiles for one Vulkan target.

    Args:
        target: the TVM target, of kind ``webgpu``.
        opt: compilation options; there are none.

    Raises:
        ConfigError: an option is given.
    """

    def __init__(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> None:
        super().__init__(GPUCapabilities.of(target), opt)
