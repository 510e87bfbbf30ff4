"""Damaging JSON in its structure.

Objects are lists of pairs here, so that a key may stand twice, and any text may stand for a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from fuzz.mutation.odd_values import Raw, odd_number, odd_text, odd_value


@dataclass(frozen=True)
class Object:
    """A JSON object: its keys with their values, in order."""

    pairs: tuple[tuple[str, Any], ...]


Path = tuple[int, ...]
"""The way to a value: positions in lists and in objects."""


def mutate_json(text: bytes, random: Random) -> bytes:
    """Change one value or a few of a JSON text, and perhaps its encoding.

    Args:
        text: valid JSON.
        random: decides what is changed.
    """
    value, paths = _parsed(text)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        value = _changed(value, random.choice(paths), random)
    written = "".join(_write(value))
    encoding = random.choices(("utf-8", "utf-16", "utf-8-sig", "latin-1"), (96, 1, 2, 1))[0]
    return written.encode(encoding, "surrogatepass" if encoding != "latin-1" else "replace")


def json_bytes(value: Any) -> bytes:
    """JSON of a plain value, as seeds are given."""
    return json.dumps(value).encode()


@lru_cache(maxsize=256)
def _parsed(text: bytes) -> tuple[Any, list[Path]]:
    """A text's value, and the ways to all values in it."""
    value = json.loads(text, object_pairs_hook=lambda pairs: Object(tuple(pairs)))
    return value, list(_paths(value, ()))


def _paths(value: Any, here: Path) -> Iterator[Path]:
    yield here
    for index, inner in enumerate(_inner(value)):
        yield from _paths(inner, (*here, index))


def _inner(value: Any) -> list[Any]:
    if isinstance(value, Object):
        return [inner for _, inner in value.pairs]
    return value if isinstance(value, list) else []


def _changed(value: Any, path: Path, random: Random) -> Any:
    """A copy in which the value at the end of a path is changed; an earlier change may have taken
    it away, and then nothing is."""
    if not path:
        return _mutated(value, random)
    first, rest = path[0], path[1:]
    if isinstance(value, Object) and first < len(value.pairs):
        pairs = list(value.pairs)
        key, inner = pairs[first]
        if rest or random.random() < 0.7:
            pairs[first] = (key, _changed(inner, rest, random))
        else:
            _change_pair(pairs, first, random)
        return Object(tuple(pairs))
    if isinstance(value, list) and first < len(value):
        items = list(value)
        if rest or random.random() < 0.7:
            items[first] = _changed(items[first], rest, random)
        else:
            _change_item(items, first, random)
        return items
    return value


def _change_pair(pairs: list[tuple[str, Any]], at: int, random: Random) -> None:
    """Take a key away, or give it twice, another name, or another one's value."""
    key, value = pairs[at]
    other = random.randrange(len(pairs))
    changes: tuple[Callable[[], object], ...] = (
        lambda: pairs.pop(at),
        lambda: pairs.pop(at),
        lambda: pairs.append((key, odd_value(random))),
        lambda: pairs.insert(0, (key, value)),
        lambda: pairs.__setitem__(at, (odd_text(random, key), value)),
        lambda: pairs.__setitem__(at, (key, pairs[other][1])),
    )
    random.choice(changes)()


def _change_item(items: list[Any], at: int, random: Random) -> None:
    """Take an item away, repeat it, or exchange it for another one."""
    other = random.randrange(len(items))
    changes: tuple[Callable[[], object], ...] = (
        lambda: items.pop(at),
        lambda: items.insert(other, items[at]),
        lambda: items.extend([items[at]] * random.choice((1, 10, 2000))),
        lambda: items.__setitem__(at, items[other]),
        lambda: items.append(odd_value(random)),
    )
    random.choice(changes)()


def _mutated(value: Any, random: Random) -> Any:
    """Another value in the place of this one, often of the same type."""
    if random.random() < 0.4:
        return odd_value(random)
    match value:
        case bool():
            return random.choice((not value, int(value), str(value)))
        case int() | float():
            return odd_number(random, value)
        case str():
            return odd_text(random, value)
        case Object(pairs):
            return Object((*pairs, (odd_text(random), odd_value(random))))
        case list():
            return [*value, odd_value(random)]
    return odd_value(random)


def _write(value: Any) -> Iterator[str]:
    if isinstance(value, Object | dict):
        pairs = value.pairs if isinstance(value, Object) else value.items()
        yield "{"
        for index, (key, inner) in enumerate(pairs):
            yield ("," if index else "") + json.dumps(key) + ":"
            yield from _write(inner)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, inner in enumerate(value):
            if index:
                yield ","
            yield from _write(inner)
        yield "]"
    elif isinstance(value, Raw):
        yield value
    else:
        yield json.dumps(value)
