"""Answers of devices that are kept between processes, as long as nothing they depend on changed.

Only a device that gives a ``fingerprint`` has its answers kept. An answer counts for the very same
plugin, mlc_llm, TVM, Python, environment and fingerprint. That a device is available is believed
for a week, that it is not for a minute only, since whoever reads why will do something about it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import logging
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

from mlc_llm.cache_root import cache_root
from mlc_llm.errors import ConfigError
from mlc_llm.files import write_atomically
from mlc_llm.plugin.device import Device
from mlc_llm.registry.entry import PluginEntry, describe
from mlc_llm.version import __version__, tvm_version

logger = logging.getLogger("mlc_llm")

FORMAT = 1
AVAILABLE_SECONDS = 7 * 86400.0
UNAVAILABLE_SECONDS = 60.0
MOST_BYTES = 1 << 20

_VARIABLES = re.compile(
    r"(CUDA|DRI|GPU|HIP|HSA|MESA|METAL|MTL|NVIDIA|ROCR|VK|XDG|ZE)_.*"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_.*|HOME"
)
"""Environment variables that drivers and their loaders read."""


class ProbeCache:
    """The kept answer of one device: a small file of JSON.

    Args:
        device: the device.
        entry: its plugin.
        timeout: seconds that its probe may take.
        folder: where answers are kept; by default ``probes`` in the cache folder.
    """

    def __init__(
        self, device: Device, entry: PluginEntry, timeout: float, folder: Path | None = None
    ) -> None:
        fingerprint = _fingerprint(device)
        self.key = _key(device, entry, timeout, fingerprint) if fingerprint else ""
        """A hash of all that the answer depends on; empty when answers are not kept."""
        place = f"{entry.distribution}\0{entry.name}\0{sys.prefix}"
        name = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:20]
        try:
            self.path = (folder or cache_root() / "probes") / f"{name}.json"
        except ConfigError as error:
            logger.debug("Answers of devices are not kept: %s", error)
            self.key, self.path = "", Path()

    def load(self) -> Any:
        """The kept answer as JSON, or None where there is none that counts."""
        if not self.key:
            return None
        try:
            with self.path.open("rb") as file:
                kept = json.loads(file.read(MOST_BYTES))
            if kept["format"] != FORMAT or kept["key"] != self.key:
                return None
            answer, age = kept["answer"], time.time() - kept["time"]
            lasting = AVAILABLE_SECONDS if answer["adapters"] else UNAVAILABLE_SECONDS
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.debug("The kept answer %s is not used: %r", self.path, error)
            return None
        # An answer of the future: the clock was changed.
        return answer if 0 <= age < lasting else None

    def save(self, answer: Any) -> None:
        """Keep an answer, given as JSON; where the folder cannot be written, it is not kept."""
        if not self.key:
            return
        kept = {"format": FORMAT, "key": self.key, "time": time.time(), "answer": answer}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(kept).encode(), durable=False)
        except OSError as error:
            logger.debug("The answer of %s is not kept: %s", self.path, error)


def _fingerprint(device: Device) -> str:
    """What the device gives; nothing where it raises, or gives what is not text."""
    try:
        fingerprint: object = device.fingerprint()
    except Exception as error:
        logger.debug("The fingerprint of %r raised %s", device.name, describe(error))
        return ""
    return fingerprint if isinstance(fingerprint, str) else ""


def _key(device: Device, entry: PluginEntry, timeout: float, fingerprint: str) -> str:
    variables = {n: value for n, value in os.environ.items() if _VARIABLES.fullmatch(n)}
    everything = {
        "plugin": [entry.distribution, entry.version, entry.name, entry.value, _source(device)],
        "core": __version__,
        "tvm": _tvm(),
        "python": [sys.executable, sys.version],
        "machine": [platform.node(), platform.release(), platform.machine()],
        "variables": variables,
        "timeout": timeout,
        "fingerprint": fingerprint,
    }
    text = json.dumps(everything, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _tvm() -> str:
    try:
        return tvm_version()
    except importlib.metadata.PackageNotFoundError:
        return ""


def _source(device: Device) -> str:
    """The state of the device's module, for a plugin that is changed without a new version."""
    try:
        file = Path(inspect.getfile(type(device)))
        info = file.stat()
    except (OSError, TypeError):
        return ""
    return f"{file} {info.st_size} {info.st_mtime_ns}"
