from .gpu import GPU
import numpy as np


def test_x(gpu: GPU):
    y = np.zeros(64, "float32")
    gpu.run(
        'extern "C" __global__ void f(float* y) { y[threadIdx.x + blockIdx.x * 32] = threadIdx.x; }',
        2,
        32,
        y,
    )
    np.testing.assert_array_equal(y, np.arange(64) % 32)
