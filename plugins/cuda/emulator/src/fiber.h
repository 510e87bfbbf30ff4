// Functions that take turns on one CPU thread: each has a stack, and keeps it while others run.
#pragma once
#include <csetjmp>
#include <cstddef>

namespace emulator {

// A stack on which one function after another runs. A function that pauses goes on from there when
// it is resumed, by whatever CPU thread.
class Fiber {
 public:
  explicit Fiber(void (*body)());
  ~Fiber();
  Fiber(const Fiber&) = delete;

  // Runs the body from where it paused, or from its start, until it pauses.
  void resume();
  // Called in the body: goes back to whoever resumed it.
  void pause();
  // Whether an address is in the stack.
  bool holds(const void* address) const;

 private:
  void (*body_)();
  unsigned char* stack_;
  bool started_ = false;
  jmp_buf inside_, outside_;
};

}  // namespace emulator
