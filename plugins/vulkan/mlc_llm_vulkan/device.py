"""The device as mlc_llm's plugins are: the parts of this package, put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.errors import DeviceError
from mlc_llm.plugin import (
    Availability,
    Device,
    DeviceCodegen,
    LibraryRecord,
    Scheme,
    Unavailable,
)
from mlc_llm.registry.choice import require_available, unavailable
from mlc_llm_vulkan.adapters import NativeAdapter
from mlc_llm_vulkan.fingerprint import fingerprint
from mlc_llm_vulkan.loader import (
    DRIVER_REMEDY,
    has_gpu,
    open_loader,
    physical_devices,
    require_version,
)
from mlc_llm_vulkan.parts import native_adapters, require_stock_tvm, require_wgpu
from mlc_llm_vulkan.target import mismatch, target_of

if TYPE_CHECKING:
    import tvm


class VulkanDevice(Device):
    """GPUs through Vulkan."""

    name = "vulkan"
    priority = 100

    def probe(self) -> Availability:
        physical = physical_devices(open_loader())
        require_version(physical)
        require_stock_tvm()
        require_wgpu()
        adapters = tuple(adapter.described(physical) for adapter in native_adapters())
        if not adapters:
            found = ", ".join(device.name for device in physical)
            raise Unavailable(f"wgpu-native cannot use what Vulkan finds: {found}")
        # A GPU whose driver is missing: something can be done about it.
        mendable = has_gpu() and all(adapter.software for adapter in adapters)
        return Availability(adapters, remedy=DRIVER_REMEDY if mendable else "")

    def fingerprint(self) -> str:
        return fingerprint()

    def open(self, index: int) -> tvm.runtime.Device:
        self._adapter(index)
        import tvm

        handle = tvm.device("vulkan", index)
        if not handle.exist:
            raise DeviceError(
                f"The device 'vulkan:{index}' was found, and cannot be opened. Check the driver "
                "with `vulkaninfo`; another program may have all of the device's memory."
            )
        return handle

    def target(self, index: int = 0) -> dict[str, Any]:
        return target_of(self._adapter(index))

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        from mlc_llm_vulkan.codegen import VulkanCodegen

        return VulkanCodegen(target, opt)

    def has_scheme(self, scheme: Scheme) -> bool:
        return has_scheme(scheme)

    def mismatch(self, record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
        return mismatch(record, target)

    def _adapter(self, index: int) -> NativeAdapter:
        """The adapter of an index, found in this process once a child has found it safe."""
        require_available(self.name)
        try:
            adapters = native_adapters()
        except Unavailable as error:
            raise unavailable(self.name, error.availability) from None
        if not 0 <= index < len(adapters):
            there = ", ".join(f"vulkan:{i} ({a.name})" for i, a in enumerate(adapters))
            raise DeviceError(
                f"There is no device 'vulkan:{index}'. There is: {there}.",
                code="device-index-unknown",
            )
        return adapters[index]


DEVICE = VulkanDevice()
