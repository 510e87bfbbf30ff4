// Addresses of 32 bits within shared memory, as instructions take them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

struct Launch;

// Whose shared memory it is from now on.
void begin_launch_window(const Launch& launch);

// Where an address is, for so many bytes; fails the launch if it is not in shared memory.
unsigned char* shared_place(uint32_t address, size_t bytes);

}  // namespace emulator
