"""Compute kernels of the CPU device.

Every function here builds one `tvm.tirx.PrimFunc`; nothing runs at import. A kernel is chosen by
shape, dtype and `Isa` (`isa.py`), and is written in the vocabulary of `vector.py`.
"""
