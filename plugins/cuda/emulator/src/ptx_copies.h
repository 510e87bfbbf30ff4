// Copies to shared memory that are under way.
#pragma once

namespace emulator {

// No thread of a new block has any.
void begin_block_copies();

}  // namespace emulator
