"""What the plugins of GPUs share: the compiler half of a device, for any GPU.

Nothing here knows a particular device. A plugin's codegen derives from
:class:`~mlc_llm.compile.gpu.codegen.GPUCodegen`, which takes what the GPU can do
(:class:`~mlc_llm.compile.gpu.capabilities.GPUCapabilities`), and has a table of what makes its
kernels (:class:`~mlc_llm.compile.gpu.makers.KernelMakers`). A plugin that knows a better kernel for
its GPUs replaces the entry in its own table, and keeps the others.

How models run:

- Activations have the model's dtype; sums are float32 everywhere.
- Quantised weights stay in the packed layout of the model folder, which the kernels read as it is:
  neighbouring threads read neighbouring words of a row. Nothing is repacked at load, and a weight
  never stands in memory as floats.
- One row of activations takes a kernel that reads the weight once (GEMV); more rows take one that
  works on tiles in the workgroup's memory.
- Attention is one kernel body for decode and prefill, over the pages that a table finds. Sliding
  windows are masks by position, as on the CPU.
- Indices are int32, flags are int32, and nothing is a bool or int8 tensor: the shading languages'
  least common ground. Kernels use no subgroup operations.
"""
