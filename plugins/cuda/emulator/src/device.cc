#include "device.h"

#include "settings.h"
#include "threads.h"

namespace emulator {

int devices() { return int(number_setting("DEVICES", 1)); }
int compute_capability() { return int(number_setting("ARCH", 90)); }

std::string device_name(int device) { return "Emulated GPU " + std::to_string(device); }

int attribute(cudaDeviceAttr which) {
  switch (which) {
    case cudaDevAttrComputeCapabilityMajor:
      return compute_capability() / 10;
    case cudaDevAttrComputeCapabilityMinor:
      return compute_capability() % 10;
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      return 1024;
    case cudaDevAttrMaxBlockDimZ:
      return 64;
    case cudaDevAttrMaxGridDimX:
      return 0x7fffffff;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      return 65535;
    case cudaDevAttrWarpSize:
      return kWarpSize;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return kSharedWithoutAsking;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return kSharedLimit;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return kSharedLimit + 1024;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return 65536;
    case cudaDevAttrMultiProcessorCount:
      return 132;
    case cudaDevAttrClockRate:
      return 1980000;
    case cudaDevAttrMemoryClockRate:
      return 2619000;
    case cudaDevAttrGlobalMemoryBusWidth:
      return 5120;
    case cudaDevAttrL2CacheSize:
      return 50 << 20;
    default:
      return 0;
  }
}

// Machine code runs on later GPUs of its generation, unless it is for one of them only (sm_90a);
// PTX runs on all later ones.
bool runs(const std::string& architecture) {
  size_t line = architecture.find('_');
  if (line == std::string::npos) return false;
  int made_for = atoi(architecture.c_str() + line + 1), here = compute_capability();
  char last = architecture.back();
  if (last == 'a') return made_for == here;
  if (last == 'f' || architecture[0] == 's') return made_for / 10 == here / 10 && made_for <= here;
  return made_for <= here;
}

}  // namespace emulator
