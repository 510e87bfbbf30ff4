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
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mlc_llm.errors import HubError
from mlc_llm.registry.entry import describe
from mlc_llm.version import __version__
from mlc_llm.weights.hub.files import Listing, listed_files

T = TypeVar("T")

THREAD = "mlc_llm-hub"
"""The name of the threads in which the hub's client works."""

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

    def listing(self, repository: str, revision: str | None) -> Listing:
        """Ask the hub what files a revision of a repository has.

        The client itself waits for the hub without a limit. Here it has a deadline.

        Raises:
            TimeoutError: there was no answer in time.
            Exception: what the client raises, which depends on its version.
        """
        return within_deadline(lambda: self._listing(repository, revision))

    def _listing(self, repository: str, revision: str | None) -> Listing:
        from huggingface_hub import HfApi, constants

        info = HfApi(**self.arguments).model_info(
            repository,
            revision=revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
        files = listed_files((file.rfilename, file.size) for file in info.siblings or ())
        # What the hub has read in a GGUF file's header.
        described = getattr(info, "gguf", None) or {}
        context = described.get("context_length")
        return Listing(str(info.sha), files, context if isinstance(context, int) else None)


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


def within_deadline(ask: Callable[[], T], answered: threading.Event | None = None) -> T:
    """Call a function that asks the hub; waits for twice ``HF_HUB_ETAG_TIMEOUT`` seconds.

    Args:
        ask: the function.
        answered: an event with which it says that the hub has answered and that it will end by
            itself; then it is waited for as long as it takes.

    Raises:
        TimeoutError: it did neither in time.
        Exception: what it raises.
    """
    from huggingface_hub import constants

    seconds = 2 * constants.HF_HUB_ETAG_TIMEOUT
    settled = answered or threading.Event()
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(ask())
        except BaseException as error:
            outcome.set_exception(error)
        settled.set()

    # A daemon: one that waits for ever does not keep the program from ending.
    threading.Thread(target=work, daemon=True, name=THREAD).start()
    if not settled.wait(seconds):
        raise TimeoutError(f"no answer within {seconds} seconds")
    return outcome.result()


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
