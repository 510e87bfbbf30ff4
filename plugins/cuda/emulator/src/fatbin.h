// Machine code for several GPUs in one, as the emulator's nvFatbin writes it: this header, and then
// for each one its length, in 8 bytes, and itself. A length of 0 is the end.
#pragma once

namespace emulator {

constexpr char kFatbinHeader[8] = {'E', 'M', 'U', 'F', 'A', 'T', 'B', '1'};

}  // namespace emulator
