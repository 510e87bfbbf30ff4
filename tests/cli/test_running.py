"""Setting a process up to run a model."""

from __future__ import annotations

import subprocess
import sys

RECORDED = """
from tvm_ffi import core

found, missing = [], []
find = core._object_type_key_to_index

def recorded(type_key):
    index = find(type_key)
    (missing if index is None else found).append(type_key)
    return index

core._object_type_key_to_index = recorded

from mlc_llm.cli.running import prepare_to_run

prepare_to_run(allow_prebuilt=False)

import tvm

assert find("ir.IRModule") is None, "the compiler's library is loaded"
print(len(found), missing)
"""


def test_tvm_asks_for_no_type_that_its_runtime_lacks() -> None:
    """Its first error of this kind takes longer than the rest of its import."""
    ran = subprocess.run(
        [sys.executable, "-c", RECORDED], capture_output=True, text=True, check=True
    )
    count, missing = ran.stdout.split(maxsplit=1)
    assert int(count) > 0
    assert missing.strip() == "[]"
