"""The search for a model library: every provider is asked in turn, and the reasons are kept."""

from __future__ import annotations

import logging
from pathlib import Path

from mlc_llm.errors import LibraryError
from mlc_llm.home import expand_home
from mlc_llm.library.record import check_file, refusal
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry, Reply, State, default_registry

logger = logging.getLogger("mlc_llm")

Looked = tuple[str, str, str]
"""A provider, a place, and why that place does not serve."""


def resolve_library(request: LibraryRequest, registry: Registry | None = None) -> Found:
    """Return the library that the first provider has for the request.

    What a provider offers is checked by its record before it is taken.

    Args:
        request: the model, the device and the user's wishes.
        registry: where providers and devices are looked up; by default among those installed.

    Raises:
        LibraryError: no provider has one; the error lists all that was looked at.
        DeviceError: the device is unknown.
        PluginError: the device's plugin is broken.
    """
    registry = registry or default_registry()
    device = registry.device(request.device)
    looked: list[Looked] = []
    for reply in registry.ask("mlc_llm_find_library", request=request):
        found, reasons, final = _judge(reply, request, device)
        if found is not None:
            registry.mark("library provider", reply.plugin, State.SELECTED)
            return found
        looked += reasons
        for reason in reasons:
            logger.debug("Looked for a library: %s: %s: %s", *reason)
        if final:
            break
    raise _failure(request, looked)


def _judge(
    reply: Reply, request: LibraryRequest, device: Device
) -> tuple[Found | None, list[Looked], bool]:
    """The library that a reply gives, or the reasons that it gives; and whether it is final."""
    provider, value = reply.plugin, reply.value
    if reply.error:
        return None, [(provider, "", reply.error)], False
    if value is None:
        return None, [], False
    if isinstance(value, NotFound):
        return None, [(provider, *pair) for pair in value.looked_at], value.final
    if not isinstance(value, Found):
        return None, [(provider, "", f"it answered with a {type(value).__name__}")], False
    path = Path(value.path).absolute()
    if request.named is not None:
        named = expand_home(request.named, LibraryError, "The model library").absolute()
        if path != named:
            return None, [(provider, str(path), "it is not the file that was named")], False
    reason = check_file(path, request, device)
    if reason is not None:
        return None, [(provider, str(path), reason)], False
    return Found(path, provider), [], False


def _failure(request: LibraryRequest, looked: list[Looked]) -> LibraryError:
    spec = request.spec
    if request.named is not None and len(looked) == 1:
        return LibraryError(refusal(looked[0][1], looked[0][2]))
    lines = [
        f"No model library for {spec.architecture} in {spec.quantization} on the device "
        f"{request.device!r}. " + ("Looked at:" if looked else "No library provider said anything.")
    ]
    for provider, place, reason in looked:
        where = f"{provider}: {place}: " if place else f"{provider}: "
        lines.append("  " + where + reason.replace("\n", "\n    "))
    return LibraryError("\n".join(lines), code="library-not-found")
