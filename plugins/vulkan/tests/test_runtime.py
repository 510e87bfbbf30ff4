"""TVM's Vulkan devices: tensors, copies, launches and errors, compared with NumPy."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.script import ir as I
from tvm.script import tirx as T

pytestmark = pytest.mark.usefixtures("vulkan")

DTYPES = ["float32", "float16", "int32", "uint32", "int8", "uint8", "int16", "int64", "bool"]
SIZES = [1, 2, 3, 4, 5, 7, 15, 16, 17, 255, 1023, 4097]
TARGET = {"kind": "webgpu", "target_device_type": 7, "max_num_threads": 256}


@I.ir_module
class Kernels:
    @T.prim_func(s_tir=True)
    def add_scaled(a: T.handle, b: T.handle, c: T.handle, n: T.int32, scale: T.float32):
        A = T.match_buffer(a, (n,), "float32")
        B = T.match_buffer(b, (n,), "float32")
        C = T.match_buffer(c, (n,), "float32")
        for block in T.thread_binding(0, (n + 63) // 64, thread="blockIdx.x"):
            for thread in T.thread_binding(0, 64, thread="threadIdx.x"):
                if block * 64 + thread < n:
                    C[block * 64 + thread] = A[block * 64 + thread] + B[block * 64 + thread] * scale

    @T.prim_func(s_tir=True)
    def add_integer(a: T.handle, c: T.handle, n: T.int32, step: T.int32):
        A = T.match_buffer(a, (n,), "int32")
        C = T.match_buffer(c, (n,), "int32")
        for block in T.thread_binding(0, n, thread="blockIdx.x"):
            for _thread in T.thread_binding(0, 1, thread="threadIdx.x"):
                C[block] = A[block] + step

    @T.prim_func(s_tir=True)
    def number(c: T.handle, x: T.int32, y: T.int32):
        C = T.match_buffer(c, (y, x), "int32")
        for i in T.thread_binding(0, x, thread="blockIdx.x"):
            for j in T.thread_binding(0, y, thread="blockIdx.y"):
                for _thread in T.thread_binding(0, 1, thread="threadIdx.x"):
                    C[j, i] = j * x + i


@pytest.fixture(scope="module")
def device() -> Any:
    return tvm.device("vulkan", 0)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, compiled and exported."""
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    tvm.compile(Kernels, tvm.target.Target(TARGET, host="llvm")).export_library(str(path))
    return path


@pytest.fixture(scope="module")
def kernels(library: Path) -> Any:
    return tvm.runtime.load_module(str(library))


def stats(index: int = 0) -> dict[str, Any]:
    return json.loads(tvm.get_global_func("mlc_llm_vulkan.stats")(index))


def random_array(shape: tuple[int, ...] | int, dtype: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.startswith("float"):
        return random.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


# Tensors.


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_dtype_come_back(device: Any, dtype: str) -> None:
    for size in SIZES:
        array = random_array(size, dtype, seed=size)
        np.testing.assert_array_equal(tvm.runtime.tensor(array, device).numpy(), array)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_at_any_offset_are_written_and_read(device: Any, size: int) -> None:
    """Views at offsets that are no multiples of a word, beside bytes that must stay."""
    whole = random_array(size + 11, "uint8", seed=size)
    for offset in range(6):
        tensor = tvm.runtime.tensor(whole, device)
        view = tensor._create_view((size,), "uint8", offset)
        np.testing.assert_array_equal(view.numpy(), whole[offset : offset + size])
        part = random_array(size, "uint8", seed=size + 1)
        view.copyfrom(part)
        expected = whole.copy()
        expected[offset : offset + size] = part
        np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize(("source", "target"), [(0, 0), (4, 8), (1, 4), (4, 1), (3, 2), (8, 0)])
def test_copies_between_tensors(device: Any, source: int, target: int) -> None:
    for size in SIZES:
        a, b = (random_array(size + 16, "uint8", seed=seed) for seed in (size, size + 1))
        from_tensor, to_tensor = tvm.runtime.tensor(a, device), tvm.runtime.tensor(b, device)
        view = from_tensor._create_view((size,), "uint8", source)
        view.copyto(to_tensor._create_view((size,), "uint8", target))
        expected = b.copy()
        expected[target : target + size] = a[source : source + size]
        np.testing.assert_array_equal(to_tensor.numpy(), expected)


@pytest.mark.parametrize(("source", "target"), [(0, 4), (8, 0), (0, 1)])
def test_copies_within_a_tensor(device: Any, source: int, target: int) -> None:
    array = random_array(64, "uint8")
    tensor = tvm.runtime.tensor(array, device)
    view = tensor._create_view((24,), "uint8", source)
    view.copyto(tensor._create_view((24,), "uint8", target))
    expected = array.copy()
    expected[target : target + 24] = array[source : source + 24]
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_copy_into_the_last_bytes_of_a_tensor(device: Any) -> None:
    a, b = random_array(7, "uint8"), random_array(11, "uint8", seed=1)
    to_tensor = tvm.runtime.tensor(b, device)
    tvm.runtime.tensor(a, device).copyto(to_tensor._create_view((7,), "uint8", 4))
    np.testing.assert_array_equal(to_tensor.numpy(), np.concatenate([b[:4], a]))


def test_tensors_larger_than_a_staging_buffer(device: Any) -> None:
    array = random_array((80 << 20) + 3, "uint8")
    np.testing.assert_array_equal(tvm.runtime.tensor(array, device).numpy(), array)


def test_empty_tensors(device: Any) -> None:
    assert tvm.runtime.tensor(np.zeros((0, 4), "float32"), device).numpy().shape == (0, 4)


def test_many_tensors_are_counted_and_freed(device: Any) -> None:
    gc.collect()  # or what other tests left would be freed meanwhile
    before = stats()
    tensors = [tvm.runtime.tensor(np.full(5, i, "int32"), device) for i in range(2000)]
    assert stats()["buffers_live"] == before["buffers_live"] + 2000
    assert stats()["bytes_live"] == before["bytes_live"] + 2000 * 32
    assert [int(tensor.numpy()[0]) for tensor in tensors[::97]] == list(range(2000))[::97]
    tensors.clear()
    assert stats()["buffers_live"] == before["buffers_live"]
    assert stats()["bytes_live"] == before["bytes_live"]


# Launches.


@pytest.mark.parametrize("size", [1, 63, 64, 65, 100_003])
def test_scalars_of_launches(device: Any, kernels: Any, size: int) -> None:
    a, b = (random_array(size, "float32", seed=seed) for seed in (1, 2))
    A, B = tvm.runtime.tensor(a, device), tvm.runtime.tensor(b, device)
    C = tvm.runtime.empty((size,), "float32", device)
    for scale in (0.5, -3.25, 1e-30):
        kernels["add_scaled"](A, B, C, size, scale)
        np.testing.assert_allclose(C.numpy(), a + b * np.float32(scale), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [0, -1, 2**31 - 1, -(2**31)])
def test_integers_of_launches(device: Any, kernels: Any, step: int) -> None:
    a = random_array(100, "int32")
    A, C = tvm.runtime.tensor(a, device), tvm.runtime.empty((100,), "int32", device)
    kernels["add_integer"](A, C, 100, step)
    expected = (a.astype("int64") + step).astype("int32")
    np.testing.assert_array_equal(C.numpy(), expected)


@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_003])
def test_grids_over_the_limit(device: Any, kernels: Any, size: int) -> None:
    a = random_array(size, "int32")
    A, C = tvm.runtime.tensor(a, device), tvm.runtime.empty((size,), "int32", device)
    kernels["add_integer"](A, C, size, 0)
    np.testing.assert_array_equal(C.numpy(), a)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (9, 7), (11, 1), (2, 65537)])
def test_grids_of_two_dimensions(device: Any, kernels: Any, shape: tuple[int, int]) -> None:
    C = tvm.runtime.empty(shape, "int32", device)
    kernels["number"](C, shape[1], shape[0])
    np.testing.assert_array_equal(C.numpy(), np.arange(C.numpy().size).reshape(shape))


def test_grid_that_cannot_be_launched(device: Any, kernels: Any) -> None:
    C = tvm.runtime.empty((65536, 1), "int32", device)
    with pytest.raises(ValueError, match=r"number_kernel .* 1 x 65536 x 1 workgroups.*65535"):
        kernels["number"](C, 1, 65536)


def test_grid_without_workgroups_does_nothing(device: Any, kernels: Any) -> None:
    before = stats()["launches"]
    kernels["add_integer"](*(tvm.runtime.empty((0,), "int32", device) for _ in "ac"), 0, 1)
    assert stats()["launches"] == before


def test_launches_run_in_the_order_of_copies(device: Any, kernels: Any) -> None:
    """A chain over several batches, with copies in between, each depending on the last."""
    size = 33
    X, Y = (tvm.runtime.tensor(np.zeros(size, "int32"), device) for _ in "xy")
    for step in range(1000):
        kernels["add_integer"](X, Y, size, step)
        Y.copyto(X)
        if step == 500:
            X.copyfrom(np.zeros(size, "int32"))
    np.testing.assert_array_equal(X.numpy(), np.full(size, sum(range(501, 1000))))


def test_tensor_freed_before_its_launch_is_submitted(device: Any, kernels: Any) -> None:
    C = tvm.runtime.empty((16,), "int32", device)
    for value in range(300):
        A = tvm.runtime.tensor(np.full(16, value, "int32"), device)
        kernels["add_integer"](A, C, 16, 1)
        del A
    np.testing.assert_array_equal(C.numpy(), np.full(16, 300))


def test_bind_groups_are_kept_and_forgotten(device: Any, kernels: Any) -> None:
    A = tvm.runtime.tensor(np.zeros(16, "int32"), device)
    C = tvm.runtime.empty((16,), "int32", device)
    kernels["add_integer"](A, C, 16, 1)
    before = stats()
    for step in range(50):
        kernels["add_integer"](A, C, 16, step)
    assert stats()["bind_groups_made"] == before["bind_groups_made"]
    del A
    assert stats()["bind_groups_live"] == before["bind_groups_live"] - 1


def test_kernels_are_compiled_ahead(library: Path) -> None:
    module = tvm.runtime.load_module(str(library))
    before = stats()["pipelines"]
    tvm.get_global_func("mlc_llm_vulkan.build")(module, 0)
    assert stats()["pipelines"] == before + 3
    tvm.get_global_func("mlc_llm_vulkan.build")(module, 0)
    assert stats()["pipelines"] == before + 3


def test_work_is_submitted_before_anyone_waits(device: Any, kernels: Any) -> None:
    A = tvm.runtime.tensor(np.zeros(16, "int32"), device)
    C = tvm.runtime.empty((16,), "int32", device)
    device.sync()
    before = stats()["submits"]
    for step in range(1000):
        kernels["add_integer"](A, C, 16, step)
    submits = stats()["submits"] - before
    assert 5 <= submits <= 20
    np.testing.assert_array_equal(C.numpy(), np.full(16, 999))


def test_threads_share_a_device(device: Any, kernels: Any) -> None:
    results: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        size = 100 + seed
        a = random_array(size, "int32", seed)
        X, Y = tvm.runtime.tensor(a, device), tvm.runtime.empty((size,), "int32", device)
        for _ in range(100):
            kernels["add_integer"](X, Y, size, seed)
            X, Y = Y, X
        results[seed] = X.numpy() - a

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(8):
        np.testing.assert_array_equal(results[seed], np.full(100 + seed, 100 * seed))


# What the device says of itself.


def test_attributes(device: Any) -> None:
    adapter = json.loads(tvm.get_global_func("mlc_llm_vulkan.adapters")())[0]
    limits = adapter["limits"]
    assert device.exist
    assert device.device_name == adapter["name"]
    assert device.max_threads_per_block == limits["max_compute_invocations_per_workgroup"]
    assert device.max_shared_memory_per_block == limits["max_compute_workgroup_storage_size"]
    assert adapter["type"] in ("discrete", "integrated", "cpu", "other")
    assert limits["max_storage_buffer_binding_size"] <= limits["max_buffer_size"]
    target = tvm.target.Target.from_device(device)
    assert target.kind.name == "webgpu"


def test_device_that_is_not_there() -> None:
    absent = tvm.device("vulkan", 40)
    assert not absent.exist
    with pytest.raises(ValueError, match="no Vulkan device 40"):
        tvm.runtime.empty((1,), "float32", absent)


# Errors.


def test_tensor_larger_than_any_buffer(device: Any) -> None:
    adapter = json.loads(tvm.get_global_func("mlc_llm_vulkan.adapters")())[0]
    size = adapter["limits"]["max_buffer_size"] + 1
    with pytest.raises(MemoryError, match=rf"no buffers larger than \d+ bytes.*{size} bytes"):
        tvm.runtime.empty((size,), "uint8", device)


def test_tensor_larger_than_kernels_reach(device: Any, kernels: Any) -> None:
    adapter = json.loads(tvm.get_global_func("mlc_llm_vulkan.adapters")())[0]
    most = adapter["limits"]["max_storage_buffer_binding_size"]
    if most >= adapter["limits"]["max_buffer_size"] - 16:
        pytest.skip("kernels on this adapter reach all of its largest buffer")
    size = most // 4 + 4
    A, C = (tvm.runtime.empty((size,), "int32", device) for _ in "ac")
    expected = rf"Tensor 0 of the kernel add_integer_kernel has {4 * size} bytes.* reach {most}"
    with pytest.raises(ValueError, match=expected):
        kernels["add_integer"](A, C, size, 0)


def test_kernel_that_reads_and_writes_one_tensor(device: Any, kernels: Any) -> None:
    A = tvm.runtime.tensor(np.zeros(16, "int32"), device)
    with pytest.raises(ValueError, match="Tensors 0 and 1 of the kernel add_integer_kernel are"):
        kernels["add_integer"](A, A, 16, 1)
    np.testing.assert_array_equal(A.numpy(), np.zeros(16))


def payload(wgsl: str, tags: list[str], name: str = "broken") -> bytes:
    """A library's kernels, as TVM's code generator writes them, with one kernel."""

    def number(value: int) -> bytes:
        return value.to_bytes(8, "little")

    def text(value: str) -> bytes:
        return number(len(value)) + value.encode()

    texts = b"".join(text(tag) for tag in tags)
    record = text(name) + text(name) + number(0) + number(len(tags)) + texts + number(0)
    return number(1) + record + number(1) + text(name) + text(wgsl)


def load(data: bytes) -> Any:
    return tvm.get_global_func("ffi.Module.load_from_bytes.webgpu")(data)


@pytest.mark.parametrize(
    ("wgsl", "reason"),
    [
        ("fn broken( {", "expected"),
        ("@compute @workgroup_size(1) fn other() {}", "entry point"),
        ("@compute @workgroup_size(1000000) fn broken() {}", "Workgroup size"),
        ("@group(0) @binding(5) var<storage> a: array<f32>;\n"
         "@compute @workgroup_size(1) fn broken() { _ = a[0]; }", "binding"),
    ],
)  # fmt: skip
def test_kernel_that_the_device_refuses(device: Any, wgsl: str, reason: str) -> None:
    module = load(payload(wgsl, ["blockIdx.x"]))
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf"(?s)kernel broken cannot be compiled.*({reason})"
        ):
            module["broken"](1)
    array = random_array(9, "float32")
    np.testing.assert_array_equal(tvm.runtime.tensor(array, device).numpy(), array)


def test_kernel_with_an_unknown_launch_tag() -> None:
    with pytest.raises(RuntimeError, match="launch tag 'vthread' is unknown"):
        load(payload("", ["vthread"]))


def test_damaged_library() -> None:
    whole = payload("@compute @workgroup_size(1) fn broken() {}", ["blockIdx.x"])
    for data in (b"", whole[:-1], whole + b"\0", b"\xff" * 40):
        with pytest.raises(RuntimeError, match="damaged"):
            load(data)


def test_wrong_arguments_of_a_launch() -> None:
    kernel = load(payload("@compute @workgroup_size(1) fn broken() {}", ["blockIdx.x"]))["broken"]
    kernel(3)
    with pytest.raises(ValueError, match="broken takes 1 arguments, and 2 were given"):
        kernel(1, 2)
    with pytest.raises(TypeError):
        kernel("one")
    with pytest.raises(ValueError, match="a dimension is negative"):
        kernel(-1)


def test_module_is_saved_and_loaded() -> None:
    data = payload("@compute @workgroup_size(1) fn broken() {}", ["blockIdx.x"])
    module = load(data)
    assert module.kind == "webgpu"
    assert "fn broken" in module.inspect_source()
    assert not module.implements_function("absent")


@pytest.mark.parametrize("text", [b"fn broken() {} // \x1b[0m", b"\x00", b"// \xff", b"// \xc3"])
def test_kernel_text_that_is_none_never_reaches_the_compiler(text: bytes) -> None:
    """It would end the process over some of them."""
    good = payload("X" * len(text), ["blockIdx.x"])
    with pytest.raises(RuntimeError, match="is not UTF-8, or has control characters"):
        load(good.replace(b"X" * len(text), text))


# What needs a process of its own.


# TVM imports it where it is installed, which takes a second.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"


def run_child(code: str) -> str:
    code = WITHOUT_TORCH + code
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("in_submission", "reason"),
    [(False, "it was given up"), (True, "wgpu-native failed while handing over commands")],
)
def test_lost_device_says_so_and_ends_nothing(in_submission: bool, reason: str) -> None:
    """Also when wgpu-native finds the loss out as it hands over commands, where it panics."""
    output = run_child(
        f"""
import numpy as np, tvm
device = tvm.device("vulkan")
tensor = tvm.runtime.tensor(np.arange(8, dtype="float32"), device)
give_up = tvm.get_global_func("mlc_llm_vulkan.give_up")
for call in (lambda: give_up(0, {in_submission}), tensor.numpy, device.sync,
             lambda: tensor.copyfrom(np.zeros(8, "float32")),
             lambda: tvm.runtime.empty((4,), "float32", device),
             lambda: tvm.runtime.empty((8,), "float32", tvm.cpu()).copyto(tensor)):
    try:
        call()
        print("no error")
    except RuntimeError as error:
        print("is lost ({reason}" in str(error))
del tensor
print("end")
"""
    )
    first = "True" if in_submission else "no error"
    assert output.splitlines() == [first, *["True"] * 5, "end"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_forked_child_is_told_so_and_hangs_nowhere(device: Any) -> None:
    output = run_child(
        """
import os, signal, threading, numpy as np, tvm
device = tvm.device("vulkan")
tensor = tvm.runtime.tensor(np.arange(8, dtype="float32"), device)
adapters = tvm.get_global_func("mlc_llm_vulkan.adapters")
# Threads of the parent that hold the device's locks now and then.
stop = threading.Event()
def work():
    while not stop.is_set():
        tensor.numpy()
workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        good = True
        for call in (tensor.numpy, device.sync, adapters, lambda: device.exist,
                     lambda: tvm.runtime.empty((4,), "float32", device)):
            try:
                call()
                good = False
            except RuntimeError as error:
                good = good and "before this process was forked" in str(error)
        del tensor
        os._exit(0 if good else 1)
    print(os.waitpid(child, 0)[1])
stop.set()
for worker in workers:
    worker.join()
print(tensor.numpy().sum())
"""
    )
    assert output.split() == ["0"] * 5 + ["28.0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_child_forked_before_vulkan_is_opened_may_open_it(device: Any) -> None:
    output = run_child(
        """
import os, numpy as np, tvm
child = os.fork()
tensor = tvm.runtime.tensor(np.arange(8, dtype="float32"), tvm.device("vulkan"))
good = tensor.numpy().sum() == 28
if child == 0:
    os._exit(0 if good else 1)
print(os.waitpid(child, 0)[1], good)
"""
    )
    assert output.split() == ["0", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_out_of_memory_is_an_error_and_passes(device: Any) -> None:
    adapter = json.loads(tvm.get_global_func("mlc_llm_vulkan.adapters")())[0]
    if adapter["type"] != "cpu":
        pytest.skip("the limit concerns the host's memory, and this adapter has its own")
    output = run_child(
        """
import resource, numpy as np, tvm
from pathlib import Path
device = tvm.device("vulkan")
small = tvm.runtime.tensor(np.arange(8, dtype="float32"), device)
small.numpy()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)
large = []
try:
    for _ in range(16):
        large.append(tvm.runtime.empty((1 << 28,), "uint8", device))
except MemoryError as error:
    print("bytes for a tensor, beside the" in str(error))
print((small.numpy() == np.arange(8)).all())
large.clear()
print(tvm.runtime.empty((1 << 20,), "uint8", device).numpy().shape)
"""
    )
    assert output.split("\n")[:3] == ["True", "True", "(1048576,)"]


def test_importing_tvm_opens_nothing_and_prints_nothing() -> None:
    code = (
        "import sys, tvm; from pathlib import Path; maps = Path('/proc/self/maps');"
        "text = maps.read_text() if maps.exists() else '';"
        "print('wgpu_native' in text, 'libvulkan.so' in text, 'wgpu' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["False"] * 3, "")


def test_backend_leaves_tvm_with_its_own_vulkan_alone() -> None:
    assert tvm_ffi.get_global_func("device_api.vulkan", allow_missing=True) is not None
    from mlc_llm_vulkan import backend

    backend.load()
    assert backend.problem == ""


@pytest.fixture
def no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlc_llm_vulkan import backend

    monkeypatch.setattr(backend, "problem", "")


@pytest.mark.usefixtures("no_problem")
@pytest.mark.parametrize("missing", ["library", "wgpu"])
def test_backend_keeps_its_problem(
    monkeypatch: pytest.MonkeyPatch, missing: str, tmp_path: Path
) -> None:
    from mlc_llm_vulkan import backend

    find: Callable[..., Any] = lambda name, allow_missing: None  # noqa: E731
    monkeypatch.setattr(tvm_ffi, "get_global_func", find)
    names = {"library": "ELF_LIBRARY", "wgpu": "ELF_WGPU_LIBRARY"}
    monkeypatch.setattr(backend, names[missing], "absent.so")
    monkeypatch.setattr(backend, "LIBRARIES", {})
    monkeypatch.setattr(backend, "WGPU_LIBRARIES", {})
    backend.load()
    assert "absent.so" in backend.problem
    assert "install" in backend.problem
