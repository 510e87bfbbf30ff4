"""The package index: where a wheel is, by the simple repository API (PEP 503 and PEP 691).

It is the index that pip is configured for, so that a mirror is used where one is set up.
"""

from __future__ import annotations

import html.parser
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit

from mlc_llm.errors import HubError
from mlc_llm.weights.catalog.download import Server
from mlc_llm.weights.hub.access import without_credentials

_DEFAULT = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST = 32 << 20
"""Bytes that a project's page may have; the largest have some megabytes."""
_SETTING = re.compile(r"^(:env:|global)\.(index-url|cert)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Index:
    """A package index.

    Args:
        url: its address, perhaps with credentials.
        certificates: a file of certificates to trust, besides the system's; empty for none.
    """

    url: str = _DEFAULT
    certificates: str = ""

    @classmethod
    def configured(cls) -> Index:
        """The index of pip's configuration; PyPI where pip is not installed or has no other."""
        found = {"index-url": os.environ.get("PIP_INDEX_URL", ""), "cert": ""}
        if importlib.util.find_spec("pip") is not None:
            for scope, name, value in _SETTING.findall(_pip_config()):
                if scope == ":env:" or not found[name]:
                    found[name] = value.strip().strip("'\"")
        return cls(found["index-url"].rstrip("/") or _DEFAULT, found["cert"])

    def wheel_url(self, project: str, wheel: str) -> tuple[Server, str]:
        """The address of a wheel, and the server to ask for it.

        Args:
            project: the project's name, normalised.
            wheel: the wheel's file name.

        Raises:
            HubError: the index cannot be reached, or does not have it.
        """
        page = f"{self.url}/{project}/"
        shown = without_credentials(page)
        if urlsplit(page).scheme not in ("http", "https"):
            raise HubError(
                f"pip's index {shown} is not an http address, so {wheel} cannot be fetched from "
                "it. Set PIP_INDEX_URL to one that is.",
                code="index-unusable",
            )
        server = Server.of(page, self.certificates)
        kind, address, data = server.read(page, accept=_ACCEPT, most=_MOST)
        try:
            links = dict(_from_json(data) if "json" in kind else _from_html(data))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise HubError(
                f"The package index answers {shown} with something else than a list of files.",
                code="index-unusable",
            ) from error
        if wheel not in links:
            raise HubError(
                f"The package index has no {wheel} at {shown}. If it is a mirror, set "
                f"PIP_INDEX_URL={_DEFAULT}.",
                code="index-unusable",
            )
        return server, urljoin(address, links[wheel])


def _pip_config() -> str:
    """What ``pip config list`` prints; empty where it fails."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout


def _from_json(data: bytes) -> Iterator[tuple[str, str]]:
    for file in json.loads(data)["files"]:
        yield str(file["filename"]), str(file["url"])


def _from_html(data: bytes) -> Iterator[tuple[str, str]]:
    page = _Anchors()
    page.feed(data.decode("utf-8", "replace"))
    for address in page.addresses:
        yield unquote(urlsplit(address).path.rpartition("/")[2]), address


class _Anchors(html.parser.HTMLParser):
    """Collects the addresses of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and (address := dict(attrs).get("href")):
            self.addresses.append(address)
