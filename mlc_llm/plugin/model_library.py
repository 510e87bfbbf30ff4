"""The model-library interface: what is asked for, what is answered, and a library's record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile, explain, parse_options
from mlc_llm.errors import ModelFolderError
from mlc_llm.plugin.architecture import Architecture, ModelConfig
from mlc_llm.plugin.scheme import Plan
from mlc_llm.shown import shown

RECORD_BEGIN = b"<<mlc-llm library record "
RECORD_END = b" end of mlc-llm library record>>"
"""What a library's record stands between, so that it is found by scanning the file's bytes."""

RECORD_FORMAT = 4
"""The version of the record, and of what libraries with it promise, that this core understands."""


def config_of(
    model: ModelFile, architecture: Architecture, tensors: int | None = None
) -> ModelConfig:
    """The architecture's config of a model folder, for the windows that are in force.

    Args:
        model: the folder's ``mlc-chat-config.json``, overrides applied.
        architecture: the architecture that it names.
        tensors: how many tensors the folder has; None where they are not looked at.

    Raises:
        ModelFolderError: the architecture cannot read the file's ``model_config``, or cannot
            compute such a window, or the folder has too few tensors for it.
    """
    windows = {
        "sliding_window_size": model.sliding_window_size,
        "attention_sink_size": model.attention_sink_size,
    }
    if model.context_window_size > 0:
        windows["context_window_size"] = model.context_window_size
    own = {"max_position_embeddings": model.architecture_config.get("context_window_size")}
    try:
        config = architecture.config({**own, **model.architecture_config, **windows})
        if tensors is not None:
            config.require_tensors(tensors)
        return config
    except Exception as error:  # whatever a plugin's config raises
        known = architecture.config_type.model_fields
        reason = explain(error, "", known) if isinstance(error, ValidationError) else error
        raise ModelFolderError(
            f"The model_config of {CHAT_CONFIG_FILE}, with the windows in force, does not fit the "
            f"architecture {architecture.name!r}: {reason}",
            code="model-config-invalid",
        ) from None


class ModelSpec(BaseModel):
    """Everything about a model that its compiled code depends on.

    Args:
        architecture: the architecture's name.
        shape: the architecture's ``ModelConfig.shape()``.
        plan: how its weights are stored.
        opt: compilation options, in canonical form.
        deterministic: whether prompts are computed the same way as answers.
    """

    model_config = ConfigDict(frozen=True)

    architecture: str
    shape: dict[str, Any]
    plan: Plan
    opt: str = ""
    deterministic: bool = False

    @classmethod
    def of(
        cls,
        model: ModelFile,
        architecture: Architecture,
        plan: Plan,
        opt: str = "",
        deterministic: bool = False,
    ) -> Self:
        """The spec of a model folder.

        Args:
            model: the folder's ``mlc-chat-config.json``, overrides applied.
            architecture: the architecture that it names.
            plan: how its weights are stored.
            opt: compilation options, ``"name=value,..."``.
            deterministic: whether prompts are computed the same way as answers.

        Raises:
            ModelFolderError: the architecture cannot read the file's ``model_config``.
        """
        return cls(
            architecture=architecture.name,
            shape=config_of(model, architecture).shape(),
            plan=plan,
            opt=",".join(f"{name}={value}" for name, value in parse_options(opt).items()),
            deterministic=deterministic,
        )

    @property
    def quantization(self) -> str:
        """The plan's name."""
        return self.plan.name

    def digest(self) -> str:
        """A short stable hash: equal for all fine-tunes of one shape and quantisation."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: ModelSpec) -> list[str]:
        """What differs, one line each, as ``field: self, not other``."""
        mine, theirs = self._flat(), other._flat()
        return [
            f"{key[:100]}: {shown(mine.get(key))}, not {shown(theirs.get(key))}"
            for key in sorted({*mine, *theirs})
            if mine.get(key) != theirs.get(key)
        ]

    def _flat(self) -> dict[str, Any]:
        """All fields, those of the shape and of the plan beside the others."""
        data = self.model_dump(mode="json")
        shape, plan = data.pop("shape"), data.pop("plan")
        return {**data, "quantization": plan.pop("name"), **plan, **shape}


Name = Annotated[str, Field(max_length=100)]
"""A version, or the name of a device or a feature: a longer one is damage."""


class LibraryRecord(BaseModel):
    """The record that every library carries, readable without opening it as code.

    Args:
        format: the record's own version.
        tvm: version of ``apache-tvm`` that compiled it.
        project: version of ``mlc-llm`` that compiled it.
        spec: what it was compiled for.
        device: the device's name.
        target: the TVM target, as a JSON object.
        cpu_features: features that the host's CPU must have, such as ``avx512vnni``.
    """

    model_config = ConfigDict(extra="ignore")

    format: int = RECORD_FORMAT
    tvm: Name
    project: Name
    spec: ModelSpec
    device: Name
    target: dict[str, Any]
    cpu_features: Annotated[list[Name], Field(max_length=1000)] = []

    def embedded(self) -> str:
        """The text that is put into the library."""
        return f"{RECORD_BEGIN.decode()}{self.model_dump_json()}{RECORD_END.decode()}"


@dataclass(frozen=True)
class LibraryRequest:
    """What a provider is asked for.

    Args:
        spec: the model.
        device: the device's name.
        target: the TVM target, as a JSON object.
        model_path: the model's folder.
        named: the library file that the user named, if any.
        allow_prebuilt: whether files that lie beside weights or under ``dist/`` may be opened.
    """

    spec: ModelSpec
    device: str
    target: dict[str, Any]
    model_path: Path
    named: Path | None = None
    allow_prebuilt: bool = False


@dataclass(frozen=True)
class Found:
    """A provider has a library: its file, and who provides it."""

    path: Path
    provider: str


@dataclass(frozen=True)
class NotFound:
    """A provider has none: what it looked at, and why each was rejected.

    Args:
        provider: the provider's name.
        looked_at: pairs of a place and the reason why it does not serve.
        final: whether no other provider may be asked, as for a file that the user named.
    """

    provider: str
    looked_at: tuple[tuple[str, str], ...] = ()
    final: bool = False
