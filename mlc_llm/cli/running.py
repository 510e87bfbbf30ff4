"""What the commands share that run a model: TVM's runtime, and the files that may be opened."""

from __future__ import annotations

import os

from mlc_llm.registry.child import hidden


def prepare_to_run(allow_prebuilt: bool) -> None:
    """Set this process up to run a model; before TVM is imported.

    Args:
        allow_prebuilt: whether library files beside the weights or under dist/ may be opened.
    """
    # TVM's runtime alone is needed; compilation happens in a child process.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    if allow_prebuilt:
        os.environ["MLC_LLM_ALLOW_PREBUILT"] = "1"
    with hidden("torch"):
        # TVM's base, which otherwise imports torch where that is installed.
        import tvm_ffi  # noqa: F401
    _never_ask_for_missing_types()


def _never_ask_for_missing_types() -> None:
    """Let TVM's Python code find only the types that the loaded library has.

    It names a hundred types that only the compiler's library has. Asking for one is an error with a
    trace of the stack, for the first of which TVM reads the debug information of all that is
    loaded: that takes twice as long as the rest of the import.
    """
    from tvm_ffi import core
    from tvm_ffi.registry import get_registered_type_keys

    find = core._object_type_key_to_index

    def found(type_key: str) -> int | None:
        return find(type_key) if type_key in set(get_registered_type_keys()) else None

    core._object_type_key_to_index = found
