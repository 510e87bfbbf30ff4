"""A checkpoint's config, as its architecture reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlc_llm.config import explain
from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Architecture, ModelConfig
from mlc_llm.weights.paths import shown_name


def parse_config(architecture: Architecture, data: Mapping[str, Any], file: Path) -> ModelConfig:
    """Let an architecture read a config.

    Args:
        architecture: the architecture.
        data: what ``config.json`` says.
        file: where that stands, for the error's message.

    Raises:
        ConversionError: the architecture cannot read it.
    """
    try:
        return architecture.config(data)
    except ValidationError as error:
        reason = explain(error, "", architecture.config_type.model_fields)
    except ValueError as error:
        reason = str(error)
    except Exception as error:  # a plugin that does not expect such a value
        reason = f"{type(error).__name__}: {error}"
    raise ConversionError(
        f"{shown_name(file)} is not a configuration of the architecture {architecture.name!r}: "
        f"{reason}",
        code="source-config-invalid",
    )
