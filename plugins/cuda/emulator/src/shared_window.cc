#include "shared_window.h"

#include "launch.h"
#include "ptx.h"

namespace emulator {
namespace {

// Each part of the shared memory has addresses of its own, far from the others'.
constexpr uint32_t kPartBytes = 1 << 24;

struct Part {
  unsigned char* begin;
  size_t bytes;
} parts[3];

}  // namespace

void begin_launch_window(const Launch& launch) {
  parts[0] = {gpu_dynamic_shared, launch.dynamic_shared};
  for (int i = 0; i < 2; ++i) {
    auto& shared = launch.kernel->shared[i];
    parts[1 + i] = {shared.begin, size_t(shared.end - shared.begin)};
  }
}

unsigned char* shared_place(uint32_t address, size_t bytes) {
  uint32_t part = address / kPartBytes, offset = address % kPartBytes;
  if (part < 1 || part > 3 || offset + bytes > parts[part - 1].bytes)
    gpu_fail("an access out of bounds of shared memory");
  return parts[part - 1].begin + offset;
}

}  // namespace emulator

uint64_t gpu_shared_address(const void* address) {
  using namespace emulator;
  auto* byte = static_cast<const unsigned char*>(address);
  for (uint32_t i = 0; i < 3; ++i)
    if (byte >= parts[i].begin && byte < parts[i].begin + parts[i].bytes)
      return (i + 1) * kPartBytes + (byte - parts[i].begin);
  gpu_fail("an address that is not in shared memory is taken for one");
}
