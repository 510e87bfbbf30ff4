// The order in which blocks run, and the threads of a block between two barriers. A GPU promises
// none, so a result that depends on it is wrong.
#pragma once
#include <cstdint>
#include <random>
#include <vector>

namespace emulator {

class Order {
 public:
  // What GPU_EMULATOR_ORDER says: forward, reverse or random, which is the same in each run.
  Order(uint64_t blocks, unsigned threads);

  uint64_t block(uint64_t turn) const;
  const std::vector<unsigned>& threads() const { return threads_; }
  // Gives the threads of the next block an order of their own.
  void next_block();

 private:
  enum { kForward, kReverse, kRandom } kind_ = kForward;
  uint64_t blocks_, stride_ = 1;
  std::vector<unsigned> threads_;
  std::minstd_rand random_;
};

}  // namespace emulator
