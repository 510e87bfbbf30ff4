// The threads of a block: they take turns at barriers and at exchanges within a warp, nowhere else.
// So a run can be repeated, also in another order of the threads.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fiber.h"
#include "launch.h"

namespace emulator {

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index{};
  bool ended = false;
  const unsigned* watched = nullptr;  // it waits while this is as it was seen
  unsigned seen = 0;
  int line = 0;  // where it waits
};

// Those threads of a warp that a mask names, and what they give each other. Who has its values back
// may give the next ones while others still read these, so there are two sets.
struct Exchange {
  unsigned arrived = 0, generation = 0;
  int line = 0;
  unsigned char values[2][kWarpSize][kLaneBytes];
};

struct Warp {
  std::map<unsigned, Exchange> exchanges;  // by mask
  unsigned passed;
};

class Block {
 public:
  // Runs all threads once, in this order; `failure` says what went wrong.
  void run(const Launch& launch, const std::vector<unsigned>& order);

  std::string failure;

  Thread& current() { return threads_[current_]; }
  unsigned number() const { return current_; }
  Warp& warp() { return warps_[current_ / kWarpSize]; }
  unsigned passed() const { return generation_; }

  void barrier(int line);
  const unsigned char* exchange(const void* value, size_t bytes, unsigned mask, int line);
  // Stops the launch, from within a thread.
  void fail(const std::string& what);
  // After a failure: threads stand amid a kernel, and their stacks are of no use.
  void abandon() { threads_.clear(); }

 private:
  static void body();
  void begin(const Launch& launch);
  bool step(unsigned number);
  void leave();
  void wait_while(const unsigned* counter, unsigned seen, int line);
  std::string standstill() const;

  const Launch* launch_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  unsigned count_ = 0, alive_ = 0, arrived_ = 0, generation_ = 0;
  int line_ = 0;
  unsigned current_ = 0;
};

}  // namespace emulator
