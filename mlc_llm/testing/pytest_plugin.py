"""Runs the conformance suites for installed plugins: ``pytest -p mlc_llm.testing.pytest_plugin``.

It is not an entry point of pytest, so that pytest runs of others do not load it. The options may be
given several times::

    pytest -p mlc_llm.testing.pytest_plugin --mlc-llm-template chatty --mlc-llm-device npu

Without files on the command line, only the suites run; with files, those too.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlc_llm.errors import MLCError
from mlc_llm.registry.discovery import ARCHITECTURE, DEVICE, LIBRARY, SOURCE, TEMPLATE, Kind
from mlc_llm.registry.registry import Registry, default_registry

OPTIONS: dict[str, Kind] = {
    "device": DEVICE,
    "provider": LIBRARY,
    "template": TEMPLATE,
    "architecture": ARCHITECTURE,
    "source": SOURCE,
}
"""Options, without their prefix, and the kind of plugin that each one names."""

_HERE = Path(__file__)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add one option for each kind of plugin."""
    group = parser.getgroup("mlc_llm", "conformance of mlc_llm plugins")
    for word, kind in OPTIONS.items():
        group.addoption(
            f"--mlc-llm-{word}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"run the conformance tests for the installed {kind.word} NAME",
        )


def pytest_configure(config: pytest.Config) -> None:
    """Have the suites collected, in the place of this file's own tests, of which it has none."""
    named = _named(config)
    if not named:
        return
    registry = default_registry()
    for word, name in named:
        try:
            registry.entry(OPTIONS[word].word, name)
        except MLCError as error:
            raise pytest.UsageError(f"--mlc-llm-{word}: {error}") from None
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        config.args.append(str(_HERE))
    else:
        config.args = [str(_HERE)]


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Collect this file as a module of suites, one class for each plugin that was named."""
    named = _named(parent.config)
    if module_path != _HERE or not named:
        return None
    module = pytest.Module.from_parent(parent, path=module_path)
    module.obj = ModuleType(__name__)
    for word, name in named:
        suite = _suite(word, name, default_registry())
        setattr(module.obj, suite.__name__, suite)
    return module


def _named(config: pytest.Config) -> list[tuple[str, str]]:
    """Pairs of an option's word and a plugin's name."""
    return [(word, name) for word in OPTIONS for name in config.getoption(f"mlc_llm_{word}")]


def _suite(word: str, name: str, registry: Registry) -> type[Any]:
    """The suite's class for a plugin, which is loaded by the first test that needs it."""
    from mlc_llm.testing import (
        ArchitectureConformance,
        DeviceConformance,
        ProviderConformance,
        SourceConformance,
        TemplateConformance,
    )

    bases = {
        "device": (DeviceConformance, registry.device),
        "provider": (ProviderConformance, registry.provider),
        "template": (TemplateConformance, registry.template),
        "architecture": (ArchitectureConformance, registry.architecture),
        "source": (SourceConformance, registry.source_format),
    }
    base, look_up = bases[word]
    title = f"Test{word.capitalize()}_" + "".join(c if c.isalnum() else "_" for c in name)
    return type(title, (base,), {word: property(lambda _: look_up(name))})
