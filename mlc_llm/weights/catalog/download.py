"""One large file over HTTP: in bounded time, resumed where it broke off, and verified."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit, urlunsplit

from mlc_llm.errors import HubError
from mlc_llm.version import __version__
from mlc_llm.weights.hub.access import reason, without_credentials

_PIECE = 1 << 18
_TRIES = 5
"""How often in a row a download may break off without a byte of progress."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Status codes after which the same request may succeed."""


@dataclass(frozen=True)
class Server:
    """A server, and how it is spoken with.

    Args:
        place: its address, without credentials: scheme, host and port.
        authorization: what is sent as ``Authorization`` to it and to no other; empty for nothing.
        certificates: a file of certificates to trust; empty for the system's.
    """

    place: tuple[str, str]
    authorization: str = field(default="", repr=False)
    certificates: str = ""

    @classmethod
    def of(cls, url: str, certificates: str = "") -> Server:
        """The server of an address, which may hold credentials."""
        parts = urlsplit(url)
        credentials, _, host = parts.netloc.rpartition("@")
        token = base64.b64encode(unquote(credentials).encode()).decode() if credentials else ""
        return cls((parts.scheme, host), f"Basic {token}" if token else "", certificates)

    def open(self, url: str, **headers: str) -> http.client.HTTPResponse:
        """Ask for an address; raises as ``urllib`` does."""
        from huggingface_hub import constants

        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{parts.scheme}: is not http")
        request = urllib.request.Request(
            urlunsplit(parts._replace(netloc=host, fragment="")),
            headers={"User-Agent": f"mlc_llm/{__version__}", **headers},
        )
        if self.authorization and (parts.scheme, host) == self.place:
            request.add_unredirected_header("Authorization", self.authorization)
        trusted = ssl.create_default_context()
        if self.certificates:
            trusted.load_verify_locations(self.certificates)
        response: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, context=trusted
        )
        return response

    def read(self, url: str, *, accept: str, most: int) -> tuple[str, str, bytes]:
        """A page: its content type, its address after redirects, and its content.

        Raises:
            HubError: the server cannot be reached, refuses, or sends more than ``most`` bytes.
        """
        try:
            with self.open(url, Accept=accept) as response:
                data = response.read(most + 1)
                kind = response.headers.get_content_type()
                address = response.url
        except Exception as error:
            raise unreachable(url, error) from error
        if len(data) > most:
            raise unreachable(url, ValueError(f"more than {most} bytes"))
        return kind, address, data


def download(
    server: Server, url: str, path: Path, nbytes: int, sha256: str, advance: Callable[[int], object]
) -> None:
    """Fetch a file, going on where an earlier call left off.

    Args:
        server: the server to ask.
        url: the file's address.
        path: where it goes; what is there already is taken for its beginning.
        nbytes: bytes that it has.
        sha256: its SHA-256 digest, in hexadecimal.
        advance: called with the bytes fetched since its last call; fewer than none where they are
            fetched again.

    Raises:
        HubError: it could not be fetched, or is not the file that was meant.
    """
    with path.open("ab") as file:
        if file.tell() > nbytes:
            _empty(file)
        advance(file.tell())
        tries = _TRIES
        while (have := file.tell()) < nbytes:
            try:
                _go_on(server, url, file, nbytes, advance)
                problem: Exception = ConnectionError("the connection ended early")
            except urllib.error.HTTPError as error:
                if error.code not in _PASSING:
                    raise unreachable(url, error) from error
                problem = error
            except (OSError, http.client.HTTPException, ValueError) as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                problem = error
            tries = _TRIES if file.tell() > have else tries - 1
            if tries == 0:
                raise unreachable(url, problem) from problem
    _verify(path, url, sha256)


def _go_on(
    server: Server, url: str, file: BinaryIO, nbytes: int, advance: Callable[[int], object]
) -> None:
    """Append what the server sends from where the file ends, up to ``nbytes`` in all."""
    have = file.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with server.open(url, **headers) as response:
        if have and not _continues(response, have):
            advance(-have)  # The server sends the whole file.
            _empty(file)
        while file.tell() < nbytes and (piece := response.read1(_PIECE)):
            piece = piece[: nbytes - file.tell()]
            file.write(piece)
            advance(len(piece))


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _continues(response: http.client.HTTPResponse, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == 206 and found is not None and int(found[1]) == start


def _verify(path: Path, url: str, sha256: str) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        path.unlink()
        raise HubError(
            f"{without_credentials(url)} is not the file that was meant: its SHA-256 is {digest}, "
            f"and must be {sha256}. It was deleted; nothing of it was used. Try again, or from "
            "another network.",
            code="download-damaged",
        )


def unreachable(url: str, error: Exception) -> HubError:
    """The error for an address that gave nothing."""
    return HubError(
        f"{without_credentials(url)} could not be fetched: {reason(error)}. Check the network, the "
        "proxy (HTTPS_PROXY) and pip's index (PIP_INDEX_URL), then try again: what was fetched is "
        "kept.",
        code="index-unreachable",
    )
