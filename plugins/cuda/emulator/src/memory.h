// The devices' memory. Each allocation lies between pages that may not be touched and is filled
// with NaNs; with GPU_EMULATOR_PROTECT=1 it can be touched only where a Touch lives, as on a GPU,
// whose memory is not the host's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace emulator {

struct AreaNotes;  // of access.cc

struct Area {
  unsigned char* begin;
  size_t bytes;
  int device;
  unsigned char* mapped;
  size_t mapped_bytes;
  std::shared_ptr<AreaNotes> notes;
};

size_t memory_bytes();  // of each device
size_t free_bytes(int device);
void* allocate(int device, size_t bytes);  // null where there is not enough
bool release(void* address);               // false where nothing was allocated there

// The allocation that an address is in, or null.
Area* area_of(const void* address);
// What is wrong with touching an address, in words.
std::string describe_fault(const void* address);

class Touch {
 public:
  Touch();
  ~Touch();
};

}  // namespace emulator
