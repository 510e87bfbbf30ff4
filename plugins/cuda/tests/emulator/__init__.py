"""Tests of the emulated GPU, and of the kernels that GPUs share on it."""
