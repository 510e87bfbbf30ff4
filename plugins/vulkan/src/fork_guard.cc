#include "fork_guard.h"

#include <atomic>

#include "errors.h"

#ifndef _WIN32
#include <pthread.h>
#endif

namespace mlc_llm_vulkan {
namespace {

std::atomic<bool> forked{false};

}  // namespace

void WatchForForks() {
#ifndef _WIN32
  // Once for all; the child of a child is one, too.
  static const int watching =
      pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
  if (watching != 0) {
    throw Error(ErrorKind::kMemory, "There is no memory left to open Vulkan with.");
  }
#endif
}

bool IsForkedChild() { return forked.load(std::memory_order_relaxed); }

void RequireNotForked() {
  if (!IsForkedChild()) return;
  throw Error(ErrorKind::kRuntime,
              "Vulkan was opened before this process was forked, and cannot be used in it: drivers "
              "do not survive a fork. Start the child process as a new one (in Python with "
              "multiprocessing's 'spawn'), or use Vulkan only after the fork.");
}

}  // namespace mlc_llm_vulkan
