"""A catalogue: short names of models, and where each is.

A plugin's entry in the group ``mlc_llm.catalogs`` is a mapping from short names to where the models
are, for example::

    CATALOG = {
        "tiny": "HF://some-org/tiny-instruct-GGUF",
        "story": {
            "wheel": "story_model-1.0-py3-none-any.whl",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "nbytes": 12_345_678,
            "member": "story_model/story.Q8_0.gguf",
            "description": "tells short stories (MIT)",
        },
    }
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlc_llm.config.explain import explain
from mlc_llm.errors import ConfigError
from mlc_llm.shown import shown

_SHORT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_WHEEL = re.compile(r"[A-Za-z0-9._]+-[A-Za-z0-9._+!]+(-[A-Za-z0-9_.]+){3,4}\.whl")


class CatalogModel(BaseModel):
    """What every model in a catalogue has.

    Args:
        description: a few words on it, which ``mlc_llm list`` shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: Annotated[str, Field(max_length=200)] = ""


class HubModel(CatalogModel):
    """A model on the Hugging Face hub.

    Args:
        hub: the reference, as ``HF://org/name`` or ``HF://org/name/model.gguf@revision``.
        nbytes: bytes that are downloaded, where that is known.
    """

    hub: Annotated[str, Field(pattern=r"(?i)^hf://")]
    nbytes: Annotated[int, Field(gt=0)] | None = None


class WheelModel(CatalogModel):
    """A GGUF file in a wheel of a package index; nothing else of the wheel is used or run.

    Args:
        wheel: the wheel's file name, which has its version in it.
        sha256: the SHA-256 digest of the wheel, in hexadecimal.
        nbytes: bytes of the wheel.
        member: the path of the GGUF file in the wheel.
    """

    wheel: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    nbytes: Annotated[int, Field(gt=0)]
    member: str

    @field_validator("wheel")
    @classmethod
    def _is_wheel(cls, value: str) -> str:
        if not _WHEEL.fullmatch(value):
            raise ValueError(f"{shown(value)} is not the file name of a wheel")
        return value

    @field_validator("member")
    @classmethod
    def _is_gguf(cls, value: str) -> str:
        if not value.lower().endswith(".gguf") or ".." in value or "\\" in value:
            raise ValueError(f"{shown(value)} is not the path of a .gguf file")
        return value

    @property
    def project(self) -> str:
        """The name that the package index has for the wheel's project."""
        return re.sub(r"[-_.]+", "-", self.wheel.partition("-")[0]).lower()

    @property
    def file_name(self) -> str:
        """The GGUF file's name, without folders."""
        return PurePosixPath(self.member).name


class PackagedModel(CatalogModel):
    """A model folder or a GGUF file in an installed package, which is not imported.

    Args:
        package: the package's name, as it is imported.
        path: the folder's or the file's path in the package.
    """

    package: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
    path: str

    @field_validator("path")
    @classmethod
    def _is_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or not path.parts:
            raise ValueError(f"{shown(value)} is not a path in a package")
        return value


AnyModel = HubModel | WheelModel | PackagedModel
_TYPES: dict[str, type[HubModel] | type[WheelModel] | type[PackagedModel]] = {
    "hub": HubModel,
    "wheel": WheelModel,
    "package": PackagedModel,
}


class Catalog(dict[str, AnyModel]):
    """Short names of models, and where each is."""

    @classmethod
    def from_data(cls, data: Mapping[Any, Any]) -> Catalog:
        """Validate a catalogue's data.

        Args:
            data: a mapping from short names to a reference ``HF://...``, or to the fields of
                :class:`HubModel`, :class:`WheelModel` or :class:`PackagedModel`.

        Raises:
            ConfigError: a name or an entry of it is malformed.
        """
        return cls({_short_name(name): _model(name, value) for name, value in data.items()})


def _short_name(name: object) -> str:
    if not isinstance(name, str) or not _SHORT_NAME.fullmatch(name):
        raise ConfigError(
            f"{shown(name)} is not a short name: it may have lower-case letters, digits and . _ - "
            "and begins with a letter or a digit"
        )
    return name


def _model(name: str, value: object) -> AnyModel:
    if isinstance(value, HubModel | WheelModel | PackagedModel):
        return value
    data = {"hub": value} if isinstance(value, str) else value
    if not isinstance(data, Mapping) or len(kinds := data.keys() & _TYPES.keys()) != 1:
        raise ConfigError(
            f"{name!r} must be HF://..., or a mapping with one of: {', '.join(_TYPES)}"
        )
    kind = _TYPES[kinds.pop()]
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        problems = explain(error, "", kind.model_fields)
        raise ConfigError(f"{name!r}: {problems}") from None
