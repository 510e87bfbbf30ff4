"""What a user may configure, and what a model folder says of itself.

``ChatConfig``, ``ConvConfig`` and ``GenerationConfig`` are overlays: every field is optional, and
only the fields that were set override what lies below (model file < ChatConfig <
GenerationConfig); None means "not set". :class:`ModelFile` is ``mlc-chat-config.json`` itself.
"""

from mlc_llm.config.explain import explain
from mlc_llm.config.model_file import CHAT_CONFIG_FILE, UNSAID_SAMPLING, ModelFile
from mlc_llm.config.options import check_options, parse_options
from mlc_llm.config.overlays import (
    ChatConfig,
    ConvConfig,
    GenerationConfig,
    Overlay,
    check_generation,
    template_fields,
    translate_older_spellings,
)

__all__ = [
    "CHAT_CONFIG_FILE",
    "UNSAID_SAMPLING",
    "ChatConfig",
    "ConvConfig",
    "GenerationConfig",
    "ModelFile",
    "Overlay",
    "check_generation",
    "check_options",
    "explain",
    "parse_options",
    "template_fields",
    "translate_older_spellings",
]
