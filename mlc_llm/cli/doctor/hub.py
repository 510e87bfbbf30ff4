"""The Hugging Face hub: its client, its cache, and, if it is asked for, the network."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.cli.doctor.storage import writable_finding
from mlc_llm.weights.hub.access import (
    HubAccess,
    reason,
    require_client,
    within_deadline,
    without_credentials,
)


def check_hub(online: bool) -> Iterator[Finding]:
    """Whether models can be fetched.

    Args:
        online: whether the hub itself may be asked.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        remedy = "Install it: python -m pip install huggingface_hub"
        yield Finding("hub", "client", Status.BROKEN, "huggingface_hub is not installed", remedy)
        return
    from huggingface_hub import constants

    version = importlib.metadata.version("huggingface_hub")
    yield Finding("hub", "client", Status.OK, f"huggingface_hub {version}")
    yield replace(writable_finding("folder", hub_folder(), "HF_HOME"), area="hub")
    if constants.HF_HUB_OFFLINE:
        detail = "offline mode is on (HF_HUB_OFFLINE): only models in the cache are found"
        yield Finding("hub", "network", Status.ABSENT, detail)
    elif not online:
        yield Finding("hub", "network", Status.ABSENT, "not asked; --online asks")
    else:
        yield network_finding(constants.ENDPOINT)


def hub_folder() -> Path:
    """Where the hub's client keeps what it fetched."""
    from huggingface_hub import constants

    return Path(os.path.expanduser(constants.HF_HUB_CACHE)).absolute()  # noqa: PTH111 (as it does)


def network_finding(endpoint: str) -> Finding:
    """Whether the hub answers, asked in the way in which models are fetched."""

    def ask() -> None:
        require_client()
        from huggingface_hub import HfApi

        next(iter(HfApi(**HubAccess.to(endpoint).arguments).list_models(limit=1)), None)

    shown = without_credentials(endpoint)
    try:
        within_deadline(ask)
    except Exception as error:  # it depends on the client's version and on its HTTP library
        remedy = "Check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT."
        return Finding("hub", "network", Status.BROKEN, f"{shown}: {reason(error)}", remedy)
    return Finding("hub", "network", Status.OK, f"{shown} answers")
