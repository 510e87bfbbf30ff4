"""The site is built without a warning, has every page, and needs nothing from elsewhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from .pages import PAGES, ROOT, name

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. MkDocs is strict: a page that is in no menu, or a dead link, fails it."""
    if find_spec("mkdocs") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "MkDocs is not installed; `make docs` and `make test` install it"
        )
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


def read(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_page_is_in_the_menu(site: Path) -> None:
    menu = set(re.findall(r'href="([^"#]*)"', read(site, "index.html")))
    for page in PAGES:
        target = re.sub(r"README\.md$|\.md$", ".html", name(page)).replace("/.html", "/index.html")
        assert (site / target).exists()
        assert target in menu or target == "index.html"


def test_files_of_the_repository_are_pages(site: Path) -> None:
    """A link that leaves docs/ leads to a page, also from one such page to another."""
    page = read(site, "models-and-devices.html")
    assert 'href="repository/benchmarks/RESULTS.html"' in page
    results = read(site, "repository/benchmarks/RESULTS.html")
    assert html.escape("Against llama.cpp") in results
    assert 'href="../architecture.html"' in read(site, "repository/CONTRIBUTING.html")


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\bsrc=\"([^\"]*)", text)
        loaded += re.findall(r"<link[^>]*rel=\"stylesheet\"[^>]*href=\"([^\"]*)", text)
        assert not [source for source in loaded if "//" in source], page


def test_every_option_of_every_command_is_shown(site: Path) -> None:
    from mlc_llm.cli.app import COMMANDS, app

    text = html.unescape(re.sub(r"<[^>]*>", "", read(site, "commands.html")))
    context = click.Context(app)
    for command in COMMANDS:
        for parameter in app.get_command(context, command).params:  # type: ignore[union-attr]
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts), (command, parameter.opts)


def test_everything_public_is_in_the_reference(site: Path) -> None:
    import mlc_llm
    from mlc_llm import callback, errors

    text = read(site, "api.html")
    names = {entry for entry in mlc_llm.__all__ if not entry.startswith("_")}
    for module in (callback, errors):
        names |= {
            entry
            for entry, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        }
    # What ChatModule calls a callback with, and what it takes as one.
    names -= {"Progress", "ProgressCallback", "_Failure"}
    shown = set(re.findall(r'id="mlc_llm\.(?:\w+\.)*(\w+)"', text))
    assert names <= shown
