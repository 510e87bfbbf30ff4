// What CUDA C says of functions and variables, and the indices of a thread.
#pragma once

#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __cluster_dims__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __cluster_dims__(...)
// In CUDA an alignment may stand anywhere in a declaration.
#define alignas(n) __attribute__((aligned(n)))
#define __align__(n) alignas(n)

// Shared memory is static, in a section of each kernel, so that the driver finds it and can fill it
// with NaNs before each block. GPU_KERNEL_NAME changes from kernel to kernel.
#define GPU_KERNEL_NAME "device_functions"
#define __shared__ static __attribute__((section("gpu_shared_" GPU_KERNEL_NAME)))

#define threadIdx gpu_index.thread
#define blockIdx gpu_index.block
#define blockDim gpu_index.block_size
#define gridDim gpu_index.grid_size
#define warpSize int(kWarpSize)

// Names of CUDA's C++ library that the text takes into its own.
namespace cuda {
namespace std {
using namespace ::std;
}
}  // namespace cuda
