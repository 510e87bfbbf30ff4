"""Tests of what NVIDIA's compiler makes of the kernels in CUDA C."""
