"""Speaking with the hub: its address, what the user is known by there, and how long is waited.

Names and passwords in ``HF_ENDPOINT`` are sent as a header. So no address that is written into a
log, or into an error's message, holds them.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlc_llm.errors import HubError
from mlc_llm.registry.entry import describe
from mlc_llm.version import __version__

_DEFAULT = "https://huggingface.co"
_CREDENTIALS = re.compile(r"(?<=://)(\S*)@")


@dataclass(frozen=True)
class HubAccess:
    """How the hub is spoken with.

    Args:
        endpoint: its address, without credentials.
        headers: what is sent with every request, credentials among them.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def to(cls, address: str) -> HubAccess:
        """Access to a hub with the token of ``HF_TOKEN`` or of ``hf auth login``.

        Args:
            address: its address, perhaps with credentials, as ``HF_ENDPOINT`` has it.

        Raises:
            HubError: the token or the address cannot be one.
        """
        from huggingface_hub import constants, get_token

        if not constants.HF_HUB_OFFLINE:
            _require_sendable(get_token() or "", "token (HF_TOKEN, or the one of `hf auth login`)")
        _require_sendable(address, "address (HF_ENDPOINT)")
        found = _CREDENTIALS.search(address)
        if found is None:
            return cls(address)
        token = base64.b64encode(unquote(found[1]).encode()).decode()
        return cls(_CREDENTIALS.sub("", address), {"authorization": f"Basic {token}"})

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments for the functions of ``huggingface_hub``."""
        return {
            "endpoint": self.endpoint,
            "headers": dict(self.headers) or None,
            "library_name": "mlc_llm",
            "library_version": __version__,
        }

    def ask(self, repository: str, revision: str | None) -> Exception | None:
        """Ask the hub for a revision of a repository, and for its files where they are not known.

        The functions that download wait for the hub without a limit. Where this went well, the hub
        answers them, too.

        Returns:
            What went wrong, as :func:`within_deadline` has it.
        """
        return within_deadline(lambda: self._ask(repository, revision))

    def _ask(self, repository: str, revision: str | None) -> None:
        from huggingface_hub import HfApi, constants

        api = HfApi(**self.arguments)
        commit = api.repo_info(
            repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
        ).sha
        folder = f"models--{repository.replace('/', '--')}"
        snapshot = Path(constants.HF_HUB_CACHE).expanduser() / folder / "snapshots" / str(commit)
        if not snapshot.is_dir():
            for _ in api.list_repo_tree(repository, recursive=True, revision=commit):
                pass


def require_client() -> None:
    """Check what ``huggingface_hub`` reads while it is imported: it prints what it cannot read.

    Raises:
        HubError: ``HF_ENDPOINT`` is not the address of a hub. It is not shown: it may hold a
            password.
    """
    address = os.environ.get("HF_ENDPOINT")
    try:
        parts = urlsplit(address or _DEFAULT)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or address == "":
        raise HubError(
            "HF_ENDPOINT is not the address of a hub, such as https://huggingface.co. Correct or "
            "unset it. In a password, / and @ are written as %2F and %40.",
            code="hub-settings-invalid",
        )


def within_deadline(ask: Callable[[], object]) -> Exception | None:
    """Call a function that asks the hub; waits for twice ``HF_HUB_ETAG_TIMEOUT`` seconds.

    Returns:
        What it raised; a TimeoutError where it did not return in time; None where it did.
    """
    from huggingface_hub import constants

    seconds = 2 * constants.HF_HUB_ETAG_TIMEOUT
    failure: list[Exception] = [TimeoutError(f"no answer within {seconds} seconds")]

    def work() -> None:
        try:
            ask()
            failure.clear()
        except Exception as error:  # it depends on the client's version and on its HTTP library
            failure[:] = [error]

    # A daemon: one that waits for ever does not keep the program from ending.
    asking = threading.Thread(target=work, daemon=True, name="mlc_llm-hub")
    asking.start()
    asking.join(seconds)
    return next(iter(failure), None)


def without_credentials(text: str) -> str:
    """A text without the credentials that addresses in it have."""
    return _CREDENTIALS.sub("***@", text)


def reason(error: BaseException) -> str:
    """An error's type and text on one line, without credentials in the addresses of it."""
    return without_credentials(describe(error))


def _require_sendable(value: str, what: str) -> None:
    """Refuse what HTTP cannot send, without showing it: it may be a secret."""
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise HubError(
            f"The hub's {what} holds a character that it cannot have, such as a space or a control "
            "character. Set it again.",
            code="hub-settings-invalid",
        )
