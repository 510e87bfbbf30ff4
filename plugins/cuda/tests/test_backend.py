"""What `import tvm` runs of this package, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import Stubs

RUNTIME = "device_api.cuda"
OPEN = "import ctypes; ctypes.CDLL('libcuda.so.1')"


def python(program: str, **variables: str) -> str:
    """What a program prints; what it writes on stderr is a failure."""
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


LOOK = f"""
import tvm
from tvm_ffi import get_global_func
from mlc_llm_cuda import backend
print(get_global_func({RUNTIME!r}, allow_missing=True) is not None, backend.problem)
"""


@pytest.mark.parametrize("runtime_alone", ["0", "1"])
def test_without_a_driver_nothing_happens(stubs: Stubs, runtime_alone: str) -> None:
    """No library of CUDA, and no module but those of the entry point, is looked for."""
    if subprocess.run([sys.executable, "-c", OPEN], capture_output=True).returncode == 0:
        pytest.skip("there is a driver")
    program = """
import sys
import tvm_ffi
before = set(sys.modules)
opened = []
sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "ctypes.dlopen" else None)
from mlc_llm_cuda import backend
backend.load()
new = sorted(set(sys.modules) - before)
print([n for n in new if n.startswith(("mlc_llm", "nvidia"))], opened, repr(backend.problem))
"""
    found = python(program, TVM_USE_RUNTIME_LIB=runtime_alone)
    modules = ["mlc_llm_cuda", "mlc_llm_cuda.backend", "mlc_llm_cuda.toolkit"]
    assert found == f"{modules} ['libcuda.so.1'] ''"


@pytest.mark.usefixtures("wheels")
@pytest.mark.matrix(first=["", "import mlc_llm, mlc_llm_cuda.device"])
@pytest.mark.parametrize("runtime_alone", ["0", "1"])
@pytest.mark.parametrize("first", ["", "import numpy", "import mlc_llm, mlc_llm_cuda.device"])
def test_with_a_driver_tvm_has_its_cuda_runtime(
    stubs: Stubs, runtime_alone: str, first: str
) -> None:
    stubs.driver(tvm=True)
    assert python(first + LOOK, TVM_USE_RUNTIME_LIB=runtime_alone) == "True"


@pytest.mark.usefixtures("wheels")
def test_a_driver_that_does_not_fit_disturbs_nothing(stubs: Stubs) -> None:
    stubs.driver()
    found, _, problem = python(LOOK).partition(" ")
    assert found == "False"
    assert "undefined symbol" in problem
