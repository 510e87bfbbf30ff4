// What kernels ask of the emulated GPU's threads: who they are, barriers, exchanges within a warp.
//
// Both sides include this: the kernels' text, through cuda_vocabulary.h, and the fake driver.
#pragma once
#include <vector_types.h>

#include <cstddef>
#include <cstdint>

constexpr unsigned kWarpSize = 32;
constexpr size_t kLaneBytes = 64;                   // most bytes that a lane passes to an exchange
constexpr size_t kSharedLimit = 227 * 1024;         // bytes of shared memory of a block
constexpr size_t kSharedWithoutAsking = 48 * 1024;  // more of it must be asked for at launch time

extern "C" {

// Which thread runs now.
extern struct GpuIndices {
  uint3 thread, block, block_size, grid_size;
} gpu_index;

// The part of a block's shared memory whose size is given at launch.
extern unsigned char gpu_dynamic_shared[kSharedLimit];

// Where the thread is in its warp.
unsigned gpu_lane();

// The thread within its block: x runs fastest.
unsigned gpu_thread_number();

// Waits for all threads of the block that have not ended. `line` tells barriers apart.
void gpu_barrier(int line);

// Gives `bytes` to the lanes of `mask`, waits for theirs, and returns them: those of lane l are at
// l * kLaneBytes from there, until the lane's next exchange with that mask.
const unsigned char* gpu_exchange(const void* value, size_t bytes, unsigned mask, int line);

// Ends the launch with an error that says `what` and which thread it was. Does not return.
[[noreturn]] void gpu_fail(const char* what);
}

// What the driver finds of a kernel in its machine code.
struct GpuKernel {
  void (*call)(void** arguments);
  const size_t* argument_bytes;
  size_t arguments;
  struct Shared {
    unsigned char *begin, *end;
  } shared[2];            // of the kernel, and of the functions that it calls
  bool checked;           // whether it was compiled to announce its accesses to memory
  unsigned most_threads;  // of a block, or 0 where the kernel does not say
};
