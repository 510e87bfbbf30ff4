"""docs/plugins/ names every hook, group, state, built-in provider and environment variable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlc_llm.plugin import hookspecs
from mlc_llm.registry.discovery import KINDS
from mlc_llm.registry.registry import Registry, State

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "plugins").glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def variables() -> set[str]:
    """The environment variables that the core's source names."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "mlc_llm").rglob("*.py"))
    named = {name for text in sources for name in re.findall(r"\bMLC_LLM_[A-Z_]+\b", text)}
    # Between a parent and its child only, and between tests.
    return named - {"MLC_LLM_PARENT_PIPE", "MLC_LLM_TEST_RUN"}


HOOKS = [
    name
    for hooks in (hookspecs.LibraryProviderHooks, hookspecs.ObserverHooks)
    for name in vars(hooks)
    if name.startswith("mlc_llm_")
]
GROUPS = [kind.group for kind in KINDS]


@pytest.mark.parametrize("name", [*HOOKS, *GROUPS, *State, *sorted(variables())])
def test_is_documented(name: str) -> None:
    assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", TEXT)


def test_the_orders_of_the_built_in_providers() -> None:
    registry = Registry(allowed=[])
    for name in registry.names("library provider"):
        assert f"| `{name}` | {registry.provider(name).order} |" in TEXT


def test_the_priorities_of_our_devices() -> None:
    registry = Registry()
    for name in {"cpu", "cuda", "metal", "vulkan"} & set(registry.names("device")):
        assert f"{name} {registry.device(name).priority}" in TEXT.replace("\n", " ")
