"""Kernels in CUDA C, for what the kernels that GPUs share leave to be gained.

========================== ====================================================================
module                     makes
========================== ====================================================================
:mod:`.linear`             products of 1 to 16 tokens with weights of 4 bits
:mod:`.prefill_attention`  attention of many tokens
:mod:`.text`               a call of a function in CUDA C, as a part of a kernel of TVM
========================== ====================================================================

Each kernel is a file of CUDA C (``.cuh``), and a maker that puts an instance of its templates into
a kernel of TVM. A maker decides by its arguments, and calls the shared one for what it has no
kernel for.
"""
