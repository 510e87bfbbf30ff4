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
