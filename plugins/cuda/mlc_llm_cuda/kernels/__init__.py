"""Kernels in CUDA C, for what the kernels that GPUs share leave to be gained.

========================= =====================================================================
module                    makes
========================= =====================================================================
:mod:`.linear`            products of 1 to 16 tokens with weights of 4 bits, with the norm before
                          one token, and the gated activation or residual after them
:mod:`.gemv`              products of one token with other codes of 3 to 8 bits and with float16
:mod:`.matmul`            products of many tokens, with codes of 3 to 8 bits and with float16
:mod:`.results`           what follows a product, and where its outputs go
:mod:`.decode_attention`  attention of single tokens over pages in float16
:mod:`.prefill_attention` attention of many tokens over pages in float16
:mod:`.text`              a call of a function in CUDA C, as a part of a kernel of TVM
========================= =====================================================================

Each kernel is CUDA C in a file (``.cuh``) or a few, and a maker that puts an instance of its
templates into a kernel of TVM. A maker decides by its arguments, and calls the shared one for what
it has no kernel for.
"""
