"""The child process of the doctor: does what may crash, and says how it went."""

from __future__ import annotations

import ctypes
import json
import sys

from mlc_llm.registry.child import exit_with_parent
from mlc_llm.registry.entry import describe


def main(arguments: list[str]) -> None:
    """``tvm`` tries TVM and writes one JSON object; ``load FILE`` opens a library of the doctor."""
    exit_with_parent()
    match arguments:
        case ["tvm"]:
            print(json.dumps(_try_tvm()))
        case ["load", path]:
            answer = ctypes.CDLL(path).mlc_llm_trial()
            if answer != 42:
                sys.exit(f"its function returned {answer}")
        case _:
            sys.exit("usage: python -m mlc_llm.cli.doctor.trial tvm | load FILE")


def _try_tvm() -> dict[str, object]:
    """Import TVM, and send an array through its ABI."""
    try:
        import numpy as np
        import tvm
        import tvm_ffi

        sent = np.arange(6, dtype=np.float32).reshape(2, 3)
        received = tvm.runtime.tensor(sent, tvm.cpu()).numpy()
        if not np.array_equal(sent, received):
            raise RuntimeError(f"an array of {sent.tolist()} came back as {received.tolist()}")
        llvm = tvm.get_global_func("codegen.LLVMTargetInitialize", allow_missing=True)
        enabled = llvm is not None or bool(tvm.runtime.enabled("llvm"))
    except BaseException as error:
        return {"error": describe(error)}
    return {"error": "", "tvm": tvm.__version__, "ffi": tvm_ffi.__version__, "llvm": enabled}


if __name__ == "__main__":
    main(sys.argv[1:])
