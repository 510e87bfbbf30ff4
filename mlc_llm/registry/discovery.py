"""Which plugins are installed: entry points read one distribution at a time, nothing imported.

Which of them may be used is the user's to say, in the environment variable ``MLC_LLM_PLUGINS``:
see :class:`Allowed`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint

from mlc_llm.errors import DeviceError, MLCError, PluginError, TemplateError, unknown

PLUGINS_VARIABLE = "MLC_LLM_PLUGINS"
OWN_DISTRIBUTIONS = frozenset({"mlc-llm", "mlc-llm-templates"})
"""The core, and the template pack that comes with it: never left out for not being listed."""

UNNAMED = "(unnamed distribution)"


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: the word for it, its entry-point group, and the error for unknown names.

    ``code`` is the code of that error.
    """

    word: str
    group: str
    error: type[MLCError]
    code: str


DEVICE = Kind("device", "mlc_llm.devices", DeviceError, code="device-unknown")
LIBRARY = Kind("library provider", "mlc_llm.model_libraries", PluginError, code="plugin-unknown")
TEMPLATE = Kind(
    "conversation template",
    "mlc_llm.conversation_templates",
    TemplateError,
    code="template-unknown",
)
ARCHITECTURE = Kind(
    "architecture", "mlc_llm.architectures", PluginError, code="architecture-unknown"
)
OBSERVER = Kind("observer", "mlc_llm.observers", PluginError, code="plugin-unknown")
SOURCE = Kind("source", "mlc_llm.sources", PluginError, code="plugin-unknown")
CATALOG = Kind("catalogue", "mlc_llm.catalogs", PluginError, code="plugin-unknown")
KINDS = (DEVICE, LIBRARY, TEMPLATE, ARCHITECTURE, OBSERVER, SOURCE, CATALOG)


def find_kind(name: str) -> Kind:
    """Return the kind with that word or entry-point group.

    Raises:
        PluginError: there is none.
    """
    for kind in KINDS:
        if name in (kind.word, kind.group, kind.group.removeprefix("mlc_llm.")):
            return kind
    raise PluginError(
        unknown("kind of plugin", name, [kind.word for kind in KINDS]), code="plugin-unknown"
    )


@dataclass(frozen=True)
class Candidate:
    """One entry point, with the distribution that it comes from."""

    kind: Kind
    entry_point: EntryPoint
    distribution: str
    version: str

    @property
    def name(self) -> str:
        return self.entry_point.name

    @property
    def origin(self) -> str:
        """The distribution and its version, as people read them."""
        return f"{self.distribution} {self.version}".rstrip()


def discover() -> tuple[list[Candidate], list[str]]:
    """Return every installed plugin, and what is wrong with distributions that cannot be read.

    Each distribution is read by itself, so that broken metadata of one hides no other. As for
    imports, the first distribution of a name on ``sys.path`` hides later ones.
    """
    candidates: list[Candidate] = []
    problems: list[str] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            # Most distributions have no plugin for us: their names need not be read.
            if "mlc_llm." not in (distribution.read_text("entry_points.txt") or ""):
                continue
            entry_points = tuple(distribution.entry_points)
            found = list(candidates_of(entry_points, distribution))
        except Exception as error:
            problems.append(
                f"The metadata of the distribution at {_place(distribution)} cannot be read, so "
                f"its plugins are not used: {type(error).__name__}: {error}"
            )
            continue
        name = canonical(found[0].distribution) if found else UNNAMED
        if name == UNNAMED or name not in seen:
            candidates += found
        seen.add(name)
    return candidates, problems


def candidates_of(
    entry_points: Iterable[EntryPoint], distribution: Distribution | None = None
) -> Iterator[Candidate]:
    """Yield those entry points that belong to our groups.

    Args:
        entry_points: entry points of any group.
        distribution: where they come from; by default each one's own ``dist``.
    """
    groups = {kind.group: kind for kind in KINDS}
    identities: dict[Distribution | None, tuple[str, str]] = {None: (UNNAMED, "")}
    for entry_point in entry_points:
        if entry_point.group not in groups:
            continue
        dist = distribution or entry_point.dist
        # Each access parses the metadata again, which is most of what a list of plugins costs.
        if dist is not None and dist not in identities:
            metadata = dist.metadata
            # Metadata without these fields gives None, whatever the annotations say.
            identities[dist] = (metadata["Name"] or UNNAMED, metadata["Version"] or "")
        yield Candidate(groups[entry_point.group], entry_point, *identities[dist])


def canonical(distribution: str) -> str:
    """A distribution's name in the form in which two spellings of it are equal."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _place(distribution: Distribution) -> str:
    return str(getattr(distribution, "_path", None) or distribution.locate_file(""))


class Allowed:
    """Which plugins may be used, and which one of several with the same name.

    Written as a comma-separated list of ``distribution`` and ``distribution:name``. Without a
    list, everything may be used. With one, only what it names and the core's own plugins; the
    word ``none`` stands for an empty list. Among plugins of one name, one listed as
    ``distribution:name`` goes before one listed by its distribution, and that before the core's
    own that is not listed.
    """

    def __init__(self, items: Sequence[str] | None) -> None:
        """Raises PluginError when an item is malformed."""
        self.restricts = items is not None
        self._distributions: set[str] = set()
        self._plugins: set[tuple[str, str]] = set()
        named = [item.strip() for item in items or ()]
        for item in named:
            distribution, colon, name = item.partition(":")
            if item == "none" and len(named) == 1:
                continue
            if not distribution or (colon and not name) or ":" in name or item == "none":
                raise PluginError(
                    f"{item!r} in the list of plugins ({PLUGINS_VARIABLE}) is malformed: give "
                    "'distribution' or 'distribution:name', separated by commas, or 'none' alone.",
                    code="plugin-list-malformed",
                )
            if colon:
                self._plugins.add((canonical(distribution), name))
            else:
                self._distributions.add(canonical(distribution))

    @classmethod
    def from_environment(cls) -> Allowed:
        """What ``MLC_LLM_PLUGINS`` says; unset or empty allows everything."""
        text = os.environ.get(PLUGINS_VARIABLE, "").strip()
        return cls([item for item in text.split(",") if item.strip()] if text else None)

    def rank(self, candidate: Candidate) -> int:
        """How strongly a plugin is asked for: 0 not at all, 1 implied, 2 and 3 listed."""
        distribution = canonical(candidate.distribution)
        if (distribution, candidate.name) in self._plugins:
            return 3
        if distribution in self._distributions:
            return 2
        return 1 if not self.restricts or distribution in OWN_DISTRIBUTIONS else 0

    def unmatched(self, candidates: Iterable[Candidate]) -> list[str]:
        """The listed items that name no installed plugin."""
        pairs = {(canonical(c.distribution), c.name) for c in candidates}
        plugins = [f"{d}:{n}" for d, n in self._plugins if (d, n) not in pairs]
        return sorted([*plugins, *self._distributions - {d for d, _ in pairs}])
