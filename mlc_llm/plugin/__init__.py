"""What a plugin author imports. Nothing here imports TVM.

Six kinds of plugins are found through entry-point groups:

============================== ===================== ====================================
group                          the entry names       its value
============================== ===================== ====================================
``mlc_llm.devices``            the device            a :class:`Device`
``mlc_llm.model_libraries``    the provider          an object with hooks (:mod:`.hookspecs`)
``mlc_llm.conversation_templates`` the template      a mapping of template fields
``mlc_llm.architectures``      the architecture      an :class:`Architecture`
``mlc_llm.observers``          the observer          an object with hooks (:mod:`.hookspecs`)
``mlc_llm.sources``            the format            a :class:`SourceFormat`
``mlc_llm.catalogs``           the catalogue         a mapping of models (:mod:`.catalog`)
============================== ===================== ====================================
"""

from mlc_llm.plugin.architecture import Architecture, ModelConfig, Weight
from mlc_llm.plugin.attention import PAGE_SIZE, AttentionSpec, Rope
from mlc_llm.plugin.device import (
    Adapter,
    AttentionKernels,
    Availability,
    Device,
    DeviceCodegen,
    Phase,
    Repack,
    Unavailable,
)
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.plugin.hookspecs import hookimpl
from mlc_llm.plugin.model_library import Found, LibraryRecord, LibraryRequest, ModelSpec, NotFound
from mlc_llm.plugin.scheme import Plan, Scheme
from mlc_llm.plugin.source import Codes, Source, SourceFormat, SourceTensor
from mlc_llm.plugin.template import ConversationTemplate

__all__ = [
    "PAGE_SIZE",
    "Adapter",
    "Architecture",
    "AttentionKernels",
    "AttentionSpec",
    "Availability",
    "Codes",
    "ConversationTemplate",
    "Device",
    "DeviceCodegen",
    "Found",
    "GGUFFamily",
    "LibraryRecord",
    "LibraryRequest",
    "ModelConfig",
    "ModelSpec",
    "NotFound",
    "Phase",
    "Plan",
    "Repack",
    "Rope",
    "Scheme",
    "Source",
    "SourceFormat",
    "SourceTensor",
    "Unavailable",
    "Weight",
    "hookimpl",
]
