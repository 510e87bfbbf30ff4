"""How much memory a model will need, and whether there is that much."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.placement import on_host
from mlc_llm.runtime.window import Window

if TYPE_CHECKING:
    import tvm

_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a loaded model takes.

    Args:
        weights: the parameters, and the largest of them once more while it is repacked.
        kv_cache: keys and values of all tokens of the window.
        workspace: activations of one prefill chunk.
        kv_bytes_per_token: what one more token of the window costs.
        kv_slack: bytes of the cache's pages beyond the window, at most.
    """

    weights: int
    kv_cache: int
    workspace: int
    kv_bytes_per_token: int
    kv_slack: int

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.kv_cache + self.workspace

    def fitting_window(self, available: int) -> int:
        """The largest window in tokens, in steps of 64, that fits; 0 when none does."""
        left = available - self.weights - self.workspace - self.kv_slack
        return max(0, left // self.kv_bytes_per_token) // 64 * 64


def estimate(
    metadata: LibraryMetadata, window: Window, weight_bytes: int, largest_tensor: int
) -> MemoryEstimate:
    """Estimate what the model will take.

    Args:
        metadata: what the library says of itself.
        window: the sizes of the KV cache.
        weight_bytes: bytes of all parameters.
        largest_tensor: bytes of the largest one.
    """
    cache = metadata.kv_cache
    per_token = sum(layer.kv_width for layer in cache.own) * cache.item_size
    pages = -(-window.size // cache.page_size)
    return MemoryEstimate(
        weights=weight_bytes + largest_tensor,
        kv_cache=pages * cache.page_size * per_token,
        workspace=max(metadata.memory_usage.values(), default=0),
        kv_bytes_per_token=per_token,
        kv_slack=cache.page_size * per_token,
    )


def require(need: MemoryEstimate, available: int | None, window: Window) -> None:
    """Refuse what cannot fit.

    Args:
        need: the estimate.
        available: bytes that there are; None when that is not known, and nothing is refused.
        window: the sizes that the estimate is for.

    Raises:
        DeviceError: it does not fit; the message says what would.
    """
    if available is None or need.total <= available:
        return
    fitting = need.fitting_window(available)
    if fitting == 0:
        remedy = "No context window is small enough: take a smaller model or quantisation."
    else:
        remedy = f"It fits with ChatConfig(context_window_size={fitting})."
    raise DeviceError(
        f"The model needs about {readable(need.total)} of memory and {readable(available)} are "
        f"available: weights {readable(need.weights)}, KV cache {readable(need.kv_cache)} for "
        f"{window.size} tokens, workspace {readable(need.workspace)}. {remedy}"
    )


def readable(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"


def available_on(device: tvm.runtime.Device, adapter: Adapter) -> int | None:
    """Bytes that an adapter has left, as far as TVM knows, else all that it has."""
    if on_host(device):
        return available_memory()
    limits: list[int | None] = [device.available_global_memory or adapter.memory]
    if adapter.shares_memory:
        limits.append(available_memory())
    return min((limit for limit in limits if limit is not None), default=None)


def available_memory() -> int | None:
    """Bytes of the host's memory that can still be used, or None when that is not known.

    On Linux what the kernel calls available, or what the cgroup still allows if that is less;
    elsewhere all physical memory.
    """
    limits = [size for size in (_meminfo(), _cgroup()) if size is not None]
    return min(limits) if limits else _physical()


def _meminfo() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _cgroup() -> int | None:
    """The least that this process's cgroup and those above it still allow (cgroup v2)."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return None
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None:
        return None
    here = _CGROUPS / path.lstrip("/")
    folders = [folder for folder in (here, *here.parents) if folder.is_relative_to(_CGROUPS)]
    left = [size for folder in folders if (size := _cgroup_left(folder)) is not None]
    return min(left, default=None)


def _cgroup_left(folder: Path) -> int | None:
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Cached files count as used, and are given back when memory is asked for.
        return max(0, limit - used + int(stat["inactive_file"]) + int(stat["active_file"]))
    except (OSError, ValueError, KeyError):
        return None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
