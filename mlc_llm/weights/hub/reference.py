"""How a model on the hub is named."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlc_llm.errors import HubError
from mlc_llm.weights.paths import shown_name

_PREFIX = re.compile(r"hf://|https?://(www\.)?(huggingface\.co|hf\.co)/", re.IGNORECASE)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_IN_ADDRESS = re.compile(r"/(?:blob|resolve)/([^/]+)/(.+)")
"""After the repository in the address of a file: its revision and its path."""
_FILE_AFTER_REVISION = re.compile(r"(refs/[^/]+/[^/]+|[^/]+)/(.+\.gguf)", re.IGNORECASE)
_LONGEST = 200
"""Characters of a repository's name, or of a revision's; the hub allows about half of that."""


@dataclass(frozen=True)
class HubReference:
    """A repository on the hub, such as ``HF://org/name``.

    Args:
        repository: its name, as ``org/name``.
        revision: a branch, tag or commit; None for the main branch.
        file: the one file of it that is meant, a ``.gguf`` file; None for the repository.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubReference | None:
        """Read what names a model on the hub.

        These are ``HF://org/name``, ``HF://org/name@revision``, ``HF://org/name/model.gguf``,
        ``HF://org/name/model.gguf@revision``, ``HF://org/name@revision/model.gguf``, and the
        addresses of a repository's page, of one of its branches, and of a file of it.

        Returns:
            The reference, or None where ``text`` is of no such form.

        Raises:
            HubError: it has the form and names no repository.
        """
        prefix = _PREFIX.match(text)
        if prefix is None:
            return None
        rest = text[prefix.end() :].rstrip("/")
        if prefix[0].lower().startswith("http"):
            rest = rest.partition("?")[0]
        repository, revision, file = _parts(rest)
        is_repository = _REPOSITORY.fullmatch(repository) and len(repository) <= _LONGEST
        if not (is_repository and _is_revision(revision) and _is_model_file(file)):
            raise HubError(
                f"{shown_name(text)} names no repository, or no file of one that could be a model; "
                "write HF://org/name, HF://org/name@tag or HF://org/name/model.gguf.",
                code="repository-malformed",
            )
        return cls(repository, revision or None, file or None)

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"HF://{self.repository}{file}" + (f"@{self.revision}" if self.revision else "")


def _parts(text: str) -> tuple[str, str, str]:
    """Repository, revision and file, each empty where it is not given."""
    path, _, revision = text.partition("@")
    file = ""
    if not revision:
        path, _, revision = path.partition("/tree/")
    elif found := _FILE_AFTER_REVISION.fullmatch(revision):
        revision, file = found[1], found[2]
    names = path.split("/", 2)
    repository = "/".join(names[:2]).removesuffix(".git")
    inside = "/" + names[2] if len(names) > 2 else ""
    if not revision and (found := _IN_ADDRESS.fullmatch(inside)):
        return repository, found[1], found[2]
    if inside and file:
        return "", "", ""  # two files
    return repository, revision, file or inside[1:]


def _is_revision(text: str) -> bool:
    """Whether a branch, a tag or a commit may be called so; nothing stands for the main branch."""
    odd = not text.isprintable() or " " in text or ".." in text
    return len(text) <= _LONGEST and not odd


def _is_model_file(text: str) -> bool:
    """Whether a file of a repository can be a model by itself; nothing stands for all of them."""
    if not text:
        return True
    odd = not text.isprintable() or len(text) > _LONGEST or "\\" in text
    parts = text.split("/")
    return text.lower().endswith(".gguf") and not odd and not {"", ".", ".."} & {*parts}
