// What a launch does to memory. Kernels that were compiled with GPU_EMULATOR_CHECK=1 announce every
// access; it is checked, and bytes are counted.
#pragma once
#include "launch.h"
#include "memory.h"

namespace emulator {

// Bytes of the device's memory.
struct Accesses {
  unsigned long long read = 0, written = 0;  // by all threads
  // In whole sectors of 32 bytes: each once for each block that reads it, and once in the launch.
  // The second is what must come from the chip's memory, the first what its caches must give.
  unsigned long long read_by_blocks = 0, read_once = 0;
};

constexpr size_t kSectorBytes = 32;

void begin_accesses(const Launch& launch);
void begin_block_accesses();
Accesses end_accesses();

}  // namespace emulator

// Called by kernels. An atomic access is no race with another one.
enum GpuAccess { kGpuRead, kGpuWrite, kGpuAtomic };
extern "C" void gpu_access(const volatile void* address, size_t bytes, GpuAccess kind);
