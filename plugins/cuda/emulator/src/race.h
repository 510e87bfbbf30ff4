// Finds races: two threads access a byte, one at least writes it, and nothing makes them wait for
// each other between. Blocks never wait for each other, threads of a block do at barriers, and
// those of a warp at exchanges. It finds a missing barrier in whatever order the threads run, and
// also where the values happen to be right.
#pragma once
#include <cstddef>
#include <cstdint>

#include "access.h"

namespace emulator {

// Who read or wrote a byte last, and when: 0 is never.
struct LastAccess {
  uint32_t interval;   // between two barriers of a block; numbers are never used again
  uint32_t exchanges;  // that the thread's warp had behind it
  uint16_t thread;
};

struct ByteHistory {
  LastAccess written, read;
  bool atomically;  // it was written so
  // Whether others than the last reader have read it: in this launch, in the interval of the last
  // one, and in the warp of the last one between the same exchanges.
  bool read_by_other_blocks, read_by_other_warps, read_by_other_lanes;
};

enum class SharedBy { kBlock, kLaunch };

void begin_launch_races();
void begin_block_races();
// Looks at some bytes beside each other; ends the launch if there is a race.
void check_race(ByteHistory* bytes, size_t count, GpuAccess kind, SharedBy sharers);

}  // namespace emulator
