"""Modules and their parameters, as architectures declare them: plain Python, without TVM.

A module's attributes are its parameters, its modules and lists of modules; their names make the
names of the parameters (``model.layers.0.mlp.down_proj.weight``). A parameter is a declaration.
When a function of the model is traced, a tensor stands in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

Layer = TypeVar("Layer", bound="Module")


@dataclass(frozen=True, eq=False)
class Parameter:
    """A tensor that is read from a model folder, or made from those when the model is loaded.

    Args:
        shape: its shape; a symbolic size by its name, such as ``"vocab_size"``.
        dtype: its dtype; None for the model's own.
    """

    shape: tuple[int | str, ...]
    dtype: str | None = None


class Module:
    """A part of a model. Subclasses set parameters and modules as attributes."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes, in operations of :mod:`mlc_llm.model.op`."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)


def computes_as(module: Module, layer: type[Layer]) -> TypeGuard[Layer]:
    """Whether a module is a layer of that type, or of a derived one that changes no method."""
    own = type(module)
    return isinstance(module, layer) and all(
        getattr(own, name) is method
        for name, method in vars(layer).items()
        if inspect.isfunction(method) and not name.startswith("__")
    )


@dataclass(frozen=True)
class ModulePlace:
    """Where a parameter or a module stands: an attribute of a module, or an item of a list.

    Args:
        name: its full name.
        owner: the module or the list.
        key: the attribute's name, or the item's index.
    """

    name: str
    owner: Any
    key: str | int

    def get(self) -> Any:
        """What stands here."""
        return self.owner[self.key] if isinstance(self.key, int) else getattr(self.owner, self.key)

    def put(self, value: Any) -> None:
        """Put a value here."""
        if isinstance(self.key, int):
            self.owner[self.key] = value
        else:
            setattr(self.owner, self.key, value)


def places(module: Module, prefix: str = "") -> Iterator[ModulePlace]:
    """The places of a module's own parameters and modules, in the order they were set."""
    for key, value in list(vars(module).items()):
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Parameter | Module):
            yield ModulePlace(name, module, key)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Parameter | Module):
                    yield ModulePlace(f"{name}.{index}", value, index)


def parameter_places(module: Module, prefix: str = "") -> Iterator[ModulePlace]:
    """The places of all parameters of a module and of the modules in it."""
    for place in places(module, prefix):
        value = place.get()
        if isinstance(value, Module):
            yield from parameter_places(value, place.name)
        else:
            yield place


def named_parameters(module: Module) -> dict[str, Parameter]:
    """All parameters of a module by their names, in the model's order."""
    return {place.name: place.get() for place in parameter_places(module)}


def named_modules(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """A module and all modules in it by their names, the outer ones first."""
    yield prefix, module
    for place in places(module, prefix):
        value = place.get()
        if isinstance(value, Module):
            yield from named_modules(value, place.name)


def replace_modules(module: Module, replacement: Callable[[str, Module], Module | None]) -> Module:
    """Put other modules in the place of some.

    Args:
        module: changed in place, unless it is itself replaced.
        replacement: given a module and its name, the module that takes its place; None to keep it
            and to go on with the modules in it.

    Returns:
        The module, or what takes its place.
    """
    return _replaced("", module, replacement)


def _replaced(
    name: str, module: Module, replacement: Callable[[str, Module], Module | None]
) -> Module:
    other = replacement(name, module)
    if other is not None:
        return other
    for place in places(module, name):
        value = place.get()
        if isinstance(value, Module):
            place.put(_replaced(place.name, value, replacement))
    return module
