#include "launch.h"

#include <signal.h>

#include <algorithm>
#include <cstring>

#include "access.h"
#include "block.h"
#include "memory.h"
#include "order.h"
#include "ptx_copies.h"
#include "settings.h"
#include "shared_window.h"

namespace emulator {
namespace {

Block block;

// While a kernel runs, an access that faults is the kernel's, and fails the launch.
class FaultsAreTheKernels {
 public:
  FaultsAreTheKernels() {
    stack_t own{};
    own.ss_sp = stack_;
    own.ss_size = sizeof stack_;
    sigaltstack(&own, &stack_before_);
    struct sigaction action{};
    action.sa_sigaction = fault;
    // The thread is left from within the handler, so the signal must not stay blocked.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~FaultsAreTheKernels() {
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};

  static void fault(int signal, siginfo_t* info, void*) {
    block.fail(signal == SIGFPE ? "a division by zero" : describe_fault(info->si_addr));
  }

  alignas(16) static inline unsigned char stack_[64 << 10];
  struct sigaction before_[3];
  stack_t stack_before_;
};

// What is in shared memory when a block begins is undefined: all bits set, which is NaN.
void spoil_shared(const Launch& launch) {
  for (auto& part : launch.kernel->shared) memset(part.begin, 0xff, part.end - part.begin);
  memset(gpu_dynamic_shared, 0xff, launch.dynamic_shared);
}

}  // namespace

std::string run(const Launch& launch) {
  FaultsAreTheKernels faults;
  uint3 grid = launch.grid, size = launch.block;
  uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  // With GPU_EMULATOR_BLOCKS some blocks stand for all: that is for counts, not for results.
  uint64_t across = std::min<uint64_t>(grid.x, number_setting("BLOCKS", grid.x));
  uint64_t turns = across * grid.y * grid.z;
  Order order(blocks, size.x * size.y * size.z);
  gpu_index.grid_size = grid;
  gpu_index.block_size = size;
  block.failure.clear();
  begin_launch_window(launch);
  for (uint64_t turn = 0; turn < turns && block.failure.empty(); ++turn) {
    uint64_t number = order.block(turn / across * grid.x + turn % across * grid.x / across);
    gpu_index.block = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y),
                       unsigned(number / grid.x / grid.y)};
    spoil_shared(launch);
    begin_block_accesses();
    begin_block_copies();
    order.next_block();
    block.run(launch, order.threads());
  }
  if (!block.failure.empty()) block.abandon();
  return block.failure;
}

unsigned barriers_passed() { return block.passed(); }
unsigned exchanges_passed() { return block.warp().passed; }
bool current_stack_holds(const void* address) { return block.current().fiber->holds(address); }

}  // namespace emulator

unsigned gpu_lane() { return emulator::block.number() % kWarpSize; }
unsigned gpu_thread_number() { return emulator::block.number(); }
void gpu_barrier(int line) { emulator::block.barrier(line); }
const unsigned char* gpu_exchange(const void* value, size_t bytes, unsigned mask, int line) {
  return emulator::block.exchange(value, bytes, mask, line);
}
void gpu_fail(const char* what) {
  emulator::block.fail(what);
  __builtin_unreachable();
}
