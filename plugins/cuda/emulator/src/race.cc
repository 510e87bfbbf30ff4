#include "race.h"

#include <string>

namespace emulator {
namespace {

uint32_t first_of_launch = 1, first_of_block = 1;
uint32_t first_of_scope;  // of those who share the memory that is looked at: a block, or a launch

// The thread that runs, as an access of it is noted.
LastAccess now() {
  return {first_of_block + barriers_passed(), exchanges_passed(), uint16_t(gpu_thread_number())};
}

bool same_warp(const LastAccess& a, const LastAccess& b) {
  return a.thread / kWarpSize == b.thread / kWarpSize;
}

// Whether an earlier access is certain to be over, whatever the order of threads and blocks.
bool is_over(const LastAccess& before, const LastAccess& now) {
  if (before.interval < first_of_scope) return true;
  if (before.interval < first_of_block) return false;
  if (before.thread == now.thread || before.interval != now.interval) return true;
  return same_warp(before, now) && before.exchanges != now.exchanges;
}

bool reads_are_over(const ByteHistory& byte, const LastAccess& now) {
  const LastAccess& read = byte.read;
  if (read.interval < first_of_scope) return true;
  if (byte.read_by_other_blocks || !is_over(read, now)) return false;
  if (read.interval != now.interval) return true;
  if (byte.read_by_other_warps) return false;
  return !byte.read_by_other_lanes || read.exchanges != now.exchanges;
}

void note_read(ByteHistory& byte, const LastAccess& now) {
  LastAccess& read = byte.read;
  if (read.interval < first_of_scope)
    byte.read_by_other_blocks = false;
  else if (read.interval < first_of_block)
    byte.read_by_other_blocks = true;
  if (read.interval != now.interval)
    byte.read_by_other_warps = byte.read_by_other_lanes = false;
  else if (!same_warp(read, now))
    byte.read_by_other_warps = true;
  else if (read.exchanges != now.exchanges)
    byte.read_by_other_lanes = false;
  else if (read.thread != now.thread)
    byte.read_by_other_lanes = true;
  read = now;
}

[[noreturn]] void fail(const char* did, const LastAccess& before, const char* does,
                       const char* where) {
  std::string who = before.interval < first_of_block ? "another block"
                                                     : "thread " + std::to_string(before.thread);
  gpu_fail((std::string("a race in ") + where + ": it " + does + " what " + who + " " + did +
            ", with no barrier between")
               .c_str());
}

}  // namespace

void begin_launch_races() {
  begin_block_races();
  first_of_launch = first_of_block;
}

// Between the first interval of this block and that of the next one lies one for each barrier, of
// which a block passes fewer than these.
void begin_block_races() { first_of_block += barriers_passed() + 1; }

void check_race(ByteHistory* bytes, size_t count, GpuAccess kind, SharedBy sharers) {
  const char* where = sharers == SharedBy::kBlock ? "shared memory" : "device memory";
  first_of_scope = sharers == SharedBy::kBlock ? first_of_block : first_of_launch;
  LastAccess access = now();
  for (ByteHistory* byte = bytes; byte < bytes + count; ++byte) {
    bool both_atomic = kind == kGpuAtomic && byte->atomically;
    if (!both_atomic && !is_over(byte->written, access))
      fail("wrote", byte->written, kind == kGpuRead ? "reads" : "writes", where);
    if (kind == kGpuRead) {
      note_read(*byte, access);
      continue;
    }
    if (!reads_are_over(*byte, access)) fail("read", byte->read, "writes", where);
    byte->written = access;
    byte->atomically = kind == kGpuAtomic;
  }
}

}  // namespace emulator
