"""MkDocs hook: what the pages link to elsewhere in the repository becomes part of the site.

A page links to a file outside of docs/ by its relative path, such as ``../benchmarks/RESULTS.md``,
which works where the repository is read. For the site each such file becomes a page below
``repository/``, and so does what that file links to; the links are rewritten to these pages. A
folder stands for its README.md, or for a list of its files. A link that leads nowhere is left as it
is, and MkDocs warns of it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = "docs/"
OTHERS = "repository/"

LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
FENCE = re.compile(r"^ *(```+|~~~+)")
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".json": "json", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that documentation pages link to, and those that these link to.

    What ``nav`` in mkdocs.yml names below ``repository/`` is added, too.
    """
    root = Path(config.docs_dir).parent
    pending = [
        (DOCS + page.src_uri, page.content_string)
        for page in files.documentation_pages()
        if page.abs_src_path
    ]
    named = " ".join(f"](../{entry.removeprefix(OTHERS)})" for entry in nav_entries(config.nav))
    pending.append((DOCS, named))
    while pending:
        origin, text = pending.pop()
        for path in sorted(set(linked_paths(root, origin, text))):
            if path.startswith(DOCS) or files.get_file_from_path(source_uri(path)):
                continue
            content = page_text(root, path)
            files.append(File.generated(config, source_uri(path), content=content))
            if path.endswith(".md"):
                pending.append((path, content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links to files of the repository as links to their pages."""
    root = Path(config.docs_dir).parent
    uri = page.file.src_uri
    origin = uri.removeprefix(OTHERS) if uri.startswith(OTHERS) else DOCS + uri

    def rewrite(match: re.Match[str]) -> str:
        path = repository_path(root, origin, match["target"])
        if path is None:
            return match[0]
        target = posixpath.relpath(source_uri(path), posixpath.dirname(uri) or ".")
        return target + (match["anchor"] or "")

    return "".join(
        line if fenced else LINK.sub(rewrite, line) for line, fenced in lines_of(markdown)
    )


def nav_entries(nav: Any) -> Iterator[str]:
    """The files outside of docs/ that the navigation names."""
    if isinstance(nav, str):
        if nav.startswith(OTHERS):
            yield nav
        return
    for part in nav.values() if isinstance(nav, dict) else nav or ():
        yield from nav_entries(part)


def linked_paths(root: Path, origin: str, text: str) -> Iterator[str]:
    """The files of the repository that a Markdown text links to, as paths from its root."""
    for line, fenced in lines_of(text):
        for match in () if fenced else LINK.finditer(line):
            path = repository_path(root, origin, match["target"])
            if path is not None:
                yield path


def repository_path(root: Path, origin: str, target: str) -> str | None:
    """The path from the repository's root that a link in ``origin`` leads to; None for no file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if path.startswith(".."):
        return None
    if (root / path).is_dir():
        listed = posixpath.normpath(posixpath.join(path, "README.md"))
        return None if f"{path}/".startswith(DOCS) else listed
    return path if (root / path).is_file() else None


def source_uri(path: str) -> str:
    """Where a file of the repository stands among the site's sources."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    return OTHERS + (path if path.endswith(".md") else f"{path}.md")


def page_text(root: Path, path: str) -> str:
    """A file as Markdown: as it is, or as a block of code under its path."""
    if not (root / path).is_file():
        folder = (root / path).parent
        names = sorted(entry.name for entry in folder.iterdir() if entry.name[0] not in "._")
        listed = "\n".join(f"- `{name}`" for name in names)
        return f"# {posixpath.dirname(path)}\n\nA folder of the repository. It has:\n\n{listed}\n"
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"# {path}\n\n``````{language}\n{text.rstrip()}\n``````\n"


def lines_of(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a Markdown text, each with whether it belongs to a fenced block."""
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = FENCE.match(line)
        inside = bool(fence)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
        yield line, inside or bool(mark)
