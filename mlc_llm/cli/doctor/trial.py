"""The child process of the doctor: does what may crash, and says how it went."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable

from mlc_llm.cli.doctor.finding import REPORT, Status
from mlc_llm.plugin.device import Unavailable
from mlc_llm.registry.child import exit_with_parent
from mlc_llm.registry.entry import describe
from mlc_llm.registry.registry import default_registry

TRIAL_MODULE = "mlc_llm.cli.doctor.trial"
TRIAL_SECONDS = 120.0
"""TVM's first import after an installation reads some hundred MB."""


def main(arguments: list[str]) -> None:
    """Try one thing.

    ``tvm`` tries TVM and writes one JSON object; ``load FILE`` opens a library of the doctor;
    ``device NAME`` tries what a device is made of, and writes a JSON object for each step.
    """
    exit_with_parent()
    match arguments:
        case ["tvm"]:
            print(json.dumps(_try_tvm()))
        case ["load", path]:
            answer = ctypes.CDLL(path).mlc_llm_trial()
            if answer != 42:
                sys.exit(f"its function returned {answer}")
        case ["device", name]:
            for step, run in default_registry().device(name).trials().items():
                print(json.dumps({"step": step, **_tried(run)}), flush=True)
        case _:
            sys.exit("usage: python -m mlc_llm.cli.doctor.trial tvm | load FILE | device NAME")


def _tried(run: Callable[[], str]) -> dict[str, str]:
    """How a step of a device went."""
    try:
        return {"status": Status.OK, "detail": run(), "remedy": ""}
    except Unavailable as error:
        said = error.availability
        status = Status.BROKEN if said.remedy else Status.ABSENT
        return {"status": status, "detail": said.reason, "remedy": said.remedy}
    except Exception as error:
        return {"status": Status.BROKEN, "detail": describe(error), "remedy": REPORT}


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
