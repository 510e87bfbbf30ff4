"""What tests of the cuda device need: drivers that are stubs, and NVIDIA's compiler from PyPI."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from mlc_llm_cuda import toolkit
from mlc_llm_cuda.stand_in import FUNCTIONS

from benchmarks.gpu.machine_code import Compiler

DRIVER = """
#include <stddef.h>
#include <stdio.h>
#include <string.h>
static const int capabilities[] = {CAPABILITIES};
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) {
    *count = sizeof(capabilities) / sizeof(int);
    return 0;
}
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "Stub %d", d); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 0x11, 16); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = capabilities[device];
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}
int cuGetErrorString(int status, const char **text) { *text = "the stub is upset"; return 0; }
"""
"""A driver's library, with the functions that the probe calls."""

MANAGEMENT = """
#include <stdio.h>
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "575.51.03");
    return 0;
}
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(size_t)index;
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    return strcmp(uuid, "GPU-11111111-1111-1111-1111-111111111111") ? 6 : 0;
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) {
    *now = *later = device != NULL;
    return 0;
}
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
    snprintf(name, size, "Managed %d", (int)(size_t)device);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    memory[0] = 80ull << 30;
    memory[1] = 3ull << 29;
    return 0;
}
"""
"""The management library, of two GPUs, the second of which is in MIG mode."""


class Stubs:
    """Stubs of NVIDIA's libraries in a folder, which child processes find first.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def driver(
        self, capabilities: str = "90", version: int = 13000, init: int = 0, tvm: bool = False
    ) -> None:
        """Build a driver.

        Args:
            capabilities: the GPUs' compute capabilities, without points.
            version: the CUDA version that it supports.
            init: what initialising it returns.
            tvm: whether it also has the functions that TVM's CUDA runtime refers to.
        """
        values = {"INIT": init, "CAPABILITIES": capabilities, "VERSION": version}
        rest = [name for name in FUNCTIONS if tvm and f"int {name}(" not in DRIVER]
        source = DRIVER + "".join(f"int {name}(void) {{ return 100; }}\n" for name in rest)
        self._build("libcuda.so.1", source, values)

    def management(self) -> None:
        """Build a management library."""
        self._build("libnvidia-ml.so.1", MANAGEMENT, {})

    def _build(self, name: str, text: str, values: dict[str, object]) -> None:
        source = self.folder / f"{name}.c"
        source.write_text(text)
        defines = [f"-D{name}={value}" for name, value in values.items()]
        library = str(self.folder / name)
        command = ["cc", "-shared", "-fPIC", *defines, str(source), "-o", library]
        subprocess.run(command, check=True)


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    """No stub yet; what is built is what child processes find."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("the stubs are built with cc, for Linux")
    folder = tmp_path / "stubs"
    folder.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Stubs(folder)


@pytest.fixture(scope="session", autouse=True)
def patient_probes() -> Iterator[None]:
    """Machines that run tests may be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLC_LLM_PROBE_TIMEOUT", "120")
        yield


@pytest.fixture(scope="session")
def wheels(lacks: Callable[[str], NoReturn]) -> None:
    """NVIDIA's wheels; skips the test where one is not installed, in CI fails it."""
    for name in toolkit.LIBRARIES:
        if toolkit.find_library(name) is None:
            lacks(f"{name} of the package {toolkit.WHEELS[name]} is not installed")


@pytest.fixture(scope="session")
def cuobjdump(wheels: None, lacks: Callable[[str], NoReturn]) -> Callable[..., str]:
    """NVIDIA's tool that reads machine code: what it writes, given its arguments."""
    folders = toolkit.toolkit_folders()
    tool = next((path for folder in folders if (path := folder / "bin" / "cuobjdump").exists()), "")
    if not tool:
        lacks("the package nvidia-cuda-cuobjdump is not installed")

    def run(*arguments: str | Path) -> str:
        command = [str(tool), *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    return run


@pytest.fixture(scope="session")
def compiler(cuobjdump: Callable[..., str]) -> Iterator[Compiler]:
    """NVIDIA's compiler of kernels and models, and what it makes of them."""
    with Compiler(cuobjdump) as compiler:
        yield compiler
