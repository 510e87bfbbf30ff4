"""The adapters that the native library can use, in the order of their indices."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from mlc_llm.plugin import Adapter
from mlc_llm_vulkan.loader import PhysicalDevice, dotted

TYPES = {
    "discrete": "discrete GPU",
    "integrated": "integrated GPU",
    "virtual": "virtual GPU",
    "cpu": "software",
}


@dataclass(frozen=True)
class Limits:
    """What an adapter allows, by WebGPU's names.

    Args:
        buffer: bytes of a buffer.
        binding: bytes of a buffer that a kernel reads or writes.
        bindings: buffers that a kernel reads or writes.
        threads: threads of a workgroup.
        shared_memory: bytes that the threads of a workgroup share.
    """

    buffer: int
    binding: int
    bindings: int
    threads: int
    shared_memory: int

    @property
    def tensor(self) -> int:
        """Bytes of a tensor: of a whole buffer that a kernel reads."""
        return min(self.buffer, self.binding)


@dataclass(frozen=True)
class NativeAdapter:
    """An adapter as the native library describes it.

    Args:
        name: what the driver calls it.
        kind: ``discrete``, ``integrated``, ``virtual``, ``cpu`` or ``other``.
        vendor: the vendor's number.
        device: the vendor's number for it.
        driver: the driver's name and version.
        float16: whether kernels may compute in float16.
        limits: what it allows.
    """

    name: str
    kind: str
    vendor: int
    device: int
    driver: str
    float16: bool
    limits: Limits

    @classmethod
    def parse(cls, data: dict[str, Any]) -> Self:
        """An item of the list that ``mlc_llm_vulkan.adapters`` gives."""
        limits = data["limits"]
        return cls(
            name=data["name"],
            kind=data["type"],
            vendor=data["vendor"],
            device=data["device_id"],
            driver=" ".join(filter(None, (data["driver"], data["driver_info"]))),
            float16=data["features"]["shader_f16"],
            limits=Limits(
                buffer=limits["max_buffer_size"],
                binding=limits["max_storage_buffer_binding_size"],
                bindings=limits["max_storage_buffers_per_shader_stage"],
                threads=min(
                    limits["max_compute_invocations_per_workgroup"],
                    limits["max_compute_workgroup_size_x"],
                ),
                shared_memory=limits["max_compute_workgroup_storage_size"],
            ),
        )

    @property
    def software(self) -> bool:
        """Whether it is a driver that computes on the CPU."""
        return self.kind == "cpu"

    def described(self, physical: Iterable[PhysicalDevice]) -> Adapter:
        """What the user is told of it.

        Args:
            physical: what the Vulkan loader says of the devices, in any order.
        """
        same = (self.name, self.vendor, self.device)
        twin = next((p for p in physical if (p.name, p.vendor, p.device) == same), None)
        details = {
            "type": TYPES.get(self.kind, self.kind),
            "driver": self.driver,
            "Vulkan": dotted(twin.version) if twin else "",
            "float16": "yes" if self.float16 else "no",
            "workgroup": f"{self.limits.threads} threads",
            "shared memory": f"{self.limits.shared_memory >> 10} KiB",
            "largest tensor": f"{self.limits.tensor >> 20} MiB",
            "buffers of a kernel": str(self.limits.bindings),
        }
        return Adapter(
            self.name,
            twin.memory if twin else None,
            {key: value for key, value in details.items() if value},
            software=self.software,
            shares_memory=self.kind in ("integrated", "cpu"),
            float16=self.float16,
            largest_tensor=self.limits.tensor,
        )


def parse_adapters(text: str) -> list[NativeAdapter]:
    """The list that ``mlc_llm_vulkan.adapters`` gives, in the order of the indices."""
    return [NativeAdapter.parse(item) for item in json.loads(text)]
