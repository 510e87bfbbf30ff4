"""What a GPU can do, as TVM's targets say it."""

from __future__ import annotations

from mlc_llm.compile.gpu.capabilities import GPUCapabilities


def test_defaults_are_what_every_gpu_has() -> None:
    least = GPUCapabilities.of({"kind": "webgpu"})
    assert least == GPUCapabilities(
        threads=128,
        shared_memory=16384,
        subgroup_width=None,
        matrix_instructions=(),
        vector_bytes=4,
        float16_sums=False,
    )


def test_limits_are_read_from_the_target() -> None:
    vulkan = {"kind": "webgpu", "max_num_threads": 256, "max_shared_memory_per_block": 32768}
    assert GPUCapabilities.of(vulkan) == GPUCapabilities(threads=256, shared_memory=32768)
    cuda = {"kind": "cuda", "max_threads_per_block": 1024, "thread_warp_size": 32}
    assert GPUCapabilities.of(cuda) == GPUCapabilities(threads=1024, subgroup_width=32)


def test_subgroups_are_counted_on_only_where_they_are() -> None:
    for target in (
        {"kind": "vulkan", "thread_warp_size": 1},  # as TVM says where it does not know
        {"kind": "webgpu", "thread_warp_size": 32},
    ):
        assert GPUCapabilities.of(target).subgroup_width is None
    with_subgroups = {"kind": "webgpu", "thread_warp_size": 32, "supports_subgroups": True}
    assert GPUCapabilities.of(with_subgroups).subgroup_width == 32
