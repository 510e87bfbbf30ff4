#include "fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <new>

namespace emulator {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr size_t kGuardBytes = 64 << 10;  // below the stack, so that too deep a call faults

}  // namespace

Fiber::Fiber(void (*body)()) : body_(body) {
  void* mapped = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  stack_ = static_cast<unsigned char*>(mapped) + kGuardBytes;
  mprotect(mapped, kGuardBytes, PROT_NONE);
}

Fiber::~Fiber() { munmap(stack_ - kGuardBytes, kGuardBytes + kStackBytes); }

bool Fiber::holds(const void* address) const {
  auto* byte = static_cast<const unsigned char*>(address);
  return byte >= stack_ && byte < stack_ + kStackBytes;
}

// A context is made only to begin; to change places, setjmp is faster, since it leaves the signal
// mask alone.
void Fiber::resume() {
  if (_setjmp(outside_)) return;
  if (started_) _longjmp(inside_, 1);
  started_ = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack_;
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, body_, 0);
  setcontext(&context);
}

void Fiber::pause() {
  if (!_setjmp(inside_)) _longjmp(outside_, 1);
}

}  // namespace emulator
