#include "block.h"

#include <cstring>
#include <utility>

GpuIndices gpu_index;
alignas(1024) unsigned char gpu_dynamic_shared[kSharedLimit];

namespace emulator {
namespace {

Block* running;  // for the fibers, whose body takes no arguments

std::string lines(int one, int other) {
  return "lines " + std::to_string(one) + " and " + std::to_string(other);
}

}  // namespace

void Block::run(const Launch& launch, const std::vector<unsigned>& order) {
  running = this;
  launch_ = &launch;
  begin(launch);
  for (unsigned left = count_; left;) {
    bool moved = false;
    for (unsigned number : order) {
      if (!step(number)) continue;
      moved = true;
      if (!failure.empty()) return;
      left -= threads_[number].ended;
    }
    if (!moved) {
      failure = standstill();
      return;
    }
  }
}

void Block::begin(const Launch& launch) {
  count_ = alive_ = launch.block.x * launch.block.y * launch.block.z;
  arrived_ = generation_ = 0;
  while (threads_.size() < count_) threads_.emplace_back().fiber = std::make_unique<Fiber>(body);
  for (unsigned i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
    thread.index = {i % launch.block.x, i / launch.block.x % launch.block.y,
                    i / launch.block.x / launch.block.y};
    thread.ended = false;
    thread.watched = nullptr;
  }
  warps_.resize((count_ + kWarpSize - 1) / kWarpSize);
  for (Warp& warp : warps_) {
    warp.passed = 0;
    for (auto& [mask, exchange] : warp.exchanges) exchange.arrived = 0;
  }
}

// Runs a thread until it waits or ends; false if it cannot run.
bool Block::step(unsigned number) {
  Thread& thread = threads_[number];
  if (thread.ended || (thread.watched && *thread.watched == thread.seen)) return false;
  current_ = number;
  gpu_index.thread = thread.index;
  thread.fiber->resume();
  return true;
}

// What a fiber runs: one thread in each block.
void Block::body() {
  for (;;) {
    running->launch_->kernel->call(running->launch_->arguments);
    running->leave();
    running->current().fiber->pause();
  }
}

// A thread that has ended is not waited for at barriers.
void Block::leave() {
  current().ended = true;
  if (--alive_ && arrived_ == alive_) {
    arrived_ = 0;
    ++generation_;
  }
}

void Block::wait_while(const unsigned* counter, unsigned seen, int line) {
  Thread& thread = current();
  thread.watched = counter;
  thread.seen = seen;
  thread.line = line;
  thread.fiber->pause();
  thread.watched = nullptr;
}

void Block::barrier(int line) {
  if (arrived_ && line_ != line) fail("threads wait at different barriers, " + lines(line_, line));
  line_ = line;
  unsigned seen = generation_;
  if (++arrived_ < alive_) {
    wait_while(&generation_, seen, line);
    return;
  }
  arrived_ = 0;
  ++generation_;
  // The last one gives way too. If it went on, it would be ahead of the others in every order.
  current().fiber->pause();
}

const unsigned char* Block::exchange(const void* value, size_t bytes, unsigned mask, int line) {
  unsigned lane = current_ % kWarpSize;
  if (bytes > kLaneBytes) fail("a lane gives too many bytes");
  if (!(mask >> lane & 1))
    fail("a lane is not in the mask of its exchange, line " + std::to_string(line));
  for (auto& [other, exchange] : warp().exchanges)
    if (other != mask && other & mask && exchange.arrived)
      fail("lanes exchange values with different masks, " + lines(exchange.line, line));
  Exchange& exchange = warp().exchanges[mask];
  if (exchange.arrived && exchange.line != line)
    fail("lanes are at different exchanges, " + lines(exchange.line, line));
  exchange.line = line;
  unsigned seen = exchange.generation;
  memcpy(exchange.values[seen & 1][lane], value, bytes);
  exchange.arrived |= 1u << lane;
  if (exchange.arrived == mask) {
    exchange.arrived = 0;
    ++exchange.generation;
    ++warp().passed;
    current().fiber->pause();
  } else {
    wait_while(&exchange.generation, seen, line);
  }
  return exchange.values[seen & 1][0];
}

std::string Block::standstill() const {
  for (unsigned i = 0; i < count_; ++i)
    if (!threads_[i].ended)
      return "thread " + std::to_string(i) + " waits for others that never come, line " +
             std::to_string(threads_[i].line);
  return "";
}

void Block::fail(const std::string& what) {
  if (failure.empty())
    failure = what + " (block " + std::to_string(gpu_index.block.x) + "," +
              std::to_string(gpu_index.block.y) + "," + std::to_string(gpu_index.block.z) +
              ", thread " + std::to_string(current_) + ")";
  current().fiber->pause();  // and is never resumed
}

}  // namespace emulator
