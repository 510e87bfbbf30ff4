#include "access.h"

#include <dlfcn.h>

#include <string>

#include "race.h"
#include "shadow.h"

namespace emulator {

// What is noted of an allocation.
struct AreaNotes {
  explicit AreaNotes(size_t bytes) : history(bytes), sectors(bytes / kSectorBytes + 2) {}

  Shadow<ByteHistory> history;
  Shadow<uint32_t> sectors;
};

namespace {

const Launch* launch;  // null while none runs whose kernel announces its accesses
Accesses counts;
Area* recent;  // most accesses are where the one before was

// Sectors are stamped with the block that read them last; stamps only grow.
uint32_t block_stamp = 0, launch_stamp = 0;

Shadow<ByteHistory> of_static[2], of_dynamic;

Area* find(const unsigned char* address) {
  if (!recent || address < recent->begin || address >= recent->begin + recent->bytes)
    recent = area_of(address);
  return recent;
}

void count(Area& area, const unsigned char* address, size_t bytes, GpuAccess kind) {
  if (kind != kGpuRead) counts.written += bytes;
  if (kind == kGpuWrite) return;
  counts.read += bytes;
  auto& stamps = area.notes->sectors;
  size_t first = (address - area.begin) / kSectorBytes;
  size_t last = (address - area.begin + bytes - 1) / kSectorBytes;
  for (size_t sector = first; sector <= last; ++sector) {
    if (stamps[sector] == block_stamp) continue;
    counts.read_by_blocks += kSectorBytes;
    if (stamps[sector] < launch_stamp) counts.read_once += kSectorBytes;
    stamps[sector] = block_stamp;
  }
}

// Which thread it is, local variables, and constants that are part of the machine code.
bool is_the_threads_own(const unsigned char* address) {
  auto* index = reinterpret_cast<const unsigned char*>(&gpu_index);
  if (address >= index && address < index + sizeof gpu_index) return true;
  if (current_stack_holds(address)) return true;
  Dl_info here, kernel;
  return dladdr(address, &here) && dladdr(reinterpret_cast<void*>(launch->kernel->call), &kernel) &&
         here.dli_fbase == kernel.dli_fbase;
}

// What the threads of a block share, by the byte; null elsewhere.
ByteHistory* shared_history(const unsigned char* address) {
  if (address >= gpu_dynamic_shared && address < gpu_dynamic_shared + launch->dynamic_shared)
    return &of_dynamic[address - gpu_dynamic_shared];
  for (int i = 0; i < 2; ++i) {
    auto& part = launch->kernel->shared[i];
    if (address >= part.begin && address < part.end) return &of_static[i][address - part.begin];
  }
  return nullptr;
}

void look_at(const unsigned char* address, size_t bytes, GpuAccess kind) {
  if (ByteHistory* history = shared_history(address)) {
    check_race(history, bytes, kind, SharedBy::kBlock);
    return;
  }
  Area* area = find(address);
  if (!area) {
    if (!is_the_threads_own(address)) gpu_fail(describe_fault(address).c_str());
    return;
  }
  if (address + bytes > area->begin + area->bytes)
    gpu_fail(describe_fault(area->begin + area->bytes).c_str());
  if (!area->notes) area->notes = std::make_shared<AreaNotes>(area->bytes);
  count(*area, address, bytes, kind);
  check_race(&area->notes->history[address - area->begin], bytes, kind, SharedBy::kLaunch);
}

}  // namespace

void begin_accesses(const Launch& next) {
  counts = {};
  launch = next.kernel->checked ? &next : nullptr;
  if (!launch) return;
  recent = nullptr;
  launch_stamp = block_stamp + 1;
  begin_launch_races();
  for (int i = 0; i < 2; ++i)
    of_static[i].reach(next.kernel->shared[i].end - next.kernel->shared[i].begin);
  of_dynamic.reach(next.dynamic_shared);
}

void begin_block_accesses() {
  if (!launch) return;
  ++block_stamp;
  begin_block_races();
}

Accesses end_accesses() {
  launch = nullptr;
  return counts;
}

}  // namespace emulator

void gpu_access(const volatile void* address, size_t bytes, GpuAccess kind) {
  using namespace emulator;
  if (launch)
    look_at(static_cast<const unsigned char*>(const_cast<const void*>(address)), bytes, kind);
}

// --- What g++ calls
// ------------------------------------------------------------------------------- -fsanitize=thread
// announces accesses to whatever library has these functions; here it is ours.

#define ANNOUNCED(bytes)                                                         \
  void __tsan_read##bytes(void* p) { gpu_access(p, bytes, kGpuRead); }           \
  void __tsan_write##bytes(void* p) { gpu_access(p, bytes, kGpuWrite); }         \
  void __tsan_unaligned_read##bytes(void* p) { gpu_access(p, bytes, kGpuRead); } \
  void __tsan_unaligned_write##bytes(void* p) { gpu_access(p, bytes, kGpuWrite); }

extern "C" {
ANNOUNCED(1)
ANNOUNCED(2)
ANNOUNCED(4)
ANNOUNCED(8)
ANNOUNCED(16)
void __tsan_read_range(void* p, size_t bytes) { gpu_access(p, bytes, kGpuRead); }
void __tsan_write_range(void* p, size_t bytes) { gpu_access(p, bytes, kGpuWrite); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}

// -fsanitize=alignment calls this where an address is not a multiple of its type's alignment.
void __ubsan_handle_type_mismatch_v1(const void* where, const void* address) {
  struct Place {
    const char* file;
    unsigned line, column;
  };
  auto* place = static_cast<const Place*>(where);
  if (!address) return;  // it faults by itself
  gpu_fail(("a misaligned address, line " + std::to_string(place->line)).c_str());
}
}
#undef ANNOUNCED
