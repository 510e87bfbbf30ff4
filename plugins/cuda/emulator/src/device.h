// What the emulated GPUs say of themselves: an H100's figures, unless the environment says
// otherwise.
#pragma once
#include <cuda_runtime_api.h>

#include <string>

namespace emulator {

int devices();             // GPU_EMULATOR_DEVICES, one by default
int compute_capability();  // GPU_EMULATOR_ARCH, 90 by default
std::string device_name(int device);
int attribute(cudaDeviceAttr which);

// Whether a GPU runs machine code for "sm_86" or PTX for "compute_86".
bool runs(const std::string& architecture);

}  // namespace emulator
