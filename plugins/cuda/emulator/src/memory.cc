#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "settings.h"

namespace emulator {
namespace {

// Kernels may count on this alignment of what cudaMalloc returns.
constexpr size_t kAlignment = 256;
// Of an allocation, only so much is filled with NaNs: the system gives pages when they are touched.
constexpr size_t kSpoiled = 256 << 20;

std::map<unsigned char*, Area> areas;  // by where they begin
std::map<int, size_t> used;

size_t page() {
  static const size_t bytes = sysconf(_SC_PAGESIZE);
  return bytes;
}

bool protects() { return number_setting("PROTECT", 0); }

void allow(const Area& area, int how) {
  mprotect(area.mapped + page(), area.mapped_bytes - 2 * page(), how);
}

}  // namespace

size_t memory_bytes() { return number_setting("MEMORY", uint64_t(8) << 30); }

size_t free_bytes(int device) {
  size_t all = memory_bytes(), taken = used[device];
  return all > taken ? all - taken : 0;
}

void* allocate(int device, size_t bytes) {
  if (bytes > free_bytes(device)) return nullptr;
  size_t inner = (bytes + page() - 1) / page() * page();
  if (!inner) inner = page();
  size_t mapped_bytes = inner + 2 * page();
  void* mapped =
      mmap(nullptr, mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* base = static_cast<unsigned char*>(mapped);
  // It ends as near to the page that may not be touched as the alignment lets it.
  unsigned char* begin = base + page() + (inner - bytes) / kAlignment * kAlignment;
  Area area{begin, bytes, device, base, mapped_bytes, nullptr};
  allow(area, PROT_READ | PROT_WRITE);
  memset(base + page(), 0xff, inner < kSpoiled ? inner : kSpoiled);
  if (protects()) allow(area, PROT_NONE);
  areas[begin] = area;
  used[device] += bytes;
  return begin;
}

bool release(void* address) {
  auto found = areas.find(static_cast<unsigned char*>(address));
  if (found == areas.end()) return false;
  used[found->second.device] -= found->second.bytes;
  munmap(found->second.mapped, found->second.mapped_bytes);
  areas.erase(found);
  return true;
}

Area* area_of(const void* address) {
  auto* byte = static_cast<unsigned char*>(const_cast<void*>(address));
  auto after = areas.upper_bound(byte);
  if (after == areas.begin()) return nullptr;
  Area& area = std::prev(after)->second;
  return byte < area.begin + area.bytes ? &area : nullptr;
}

std::string describe_fault(const void* address) {
  auto* byte = static_cast<const unsigned char*>(address);
  for (auto& [begin, area] : areas) {
    if (byte < area.mapped || byte >= area.mapped + area.mapped_bytes) continue;
    std::string where = byte < begin
                            ? std::to_string(begin - byte) + " bytes before"
                            : std::to_string(byte - begin - area.bytes) + " bytes after the end of";
    return "an access " + where + " an allocation of " + std::to_string(area.bytes) + " bytes";
  }
  return "an access to memory that is not the device's";
}

Touch::Touch() {
  if (protects())
    for (auto& [begin, area] : areas) allow(area, PROT_READ | PROT_WRITE);
}

Touch::~Touch() {
  if (protects())
    for (auto& [begin, area] : areas) allow(area, PROT_NONE);
}

}  // namespace emulator
