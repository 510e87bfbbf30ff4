// Runs a kernel: all threads of all blocks, on the CPU thread that calls.
#pragma once
#include <string>

#include "threads.h"

namespace emulator {

struct Launch {
  const GpuKernel* kernel;
  void** arguments;
  uint3 grid, block;
  size_t dynamic_shared;
};

// Returns what went wrong, or nothing.
std::string run(const Launch& launch);

// How many barriers the block, and exchanges the warp of the thread that runs, has behind it: two
// accesses to memory by threads of a block are in order if there is one of them between.
unsigned barriers_passed();
unsigned exchanges_passed();

// Whether an address is in the stack of the thread that runs: a local variable's.
bool current_stack_holds(const void* address);

}  // namespace emulator
