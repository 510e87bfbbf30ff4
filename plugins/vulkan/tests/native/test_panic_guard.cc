#include <unwind.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "panic_guard.h"
#include "testing.h"

using mlc_llm_vulkan::Error;
using mlc_llm_vulkan::ErrorKind;
using mlc_llm_vulkan::Guarded;
using mlc_llm_vulkan::WgpuHasPanicked;

namespace {

/*! \brief Unwinding any further ends the process, as it does in wgpu-native's functions. */
struct EndsProcess {
  ~EndsProcess() { std::abort(); }
};

/*! \brief Raise an exception as Rust does, through a frame that must not be unwound. */
int Panic() {
  static _Unwind_Exception panic;
  panic = {};
  std::memcpy(&panic.exception_class, "MOZ\0RUST", 8);
  const EndsProcess frame;
  _Unwind_RaiseException(&panic);
  return 0;
}

// The tests of this file are one, since nothing can be called after a panic.
TEST(guarded_passes_results_and_errors_and_stops_after_a_panic) {
  CHECK_EQUAL(Guarded("testing", [] { return 5; }), 5);
  int called = 0;
  Guarded("testing", [&] { ++called; });
  CHECK_EQUAL(called, 1);
  CHECK_ERROR(Guarded("testing", []() -> int { throw Error(ErrorKind::kValue, "mine"); }), "mine");
  bool passed = false;
  try {
    Guarded("testing", [] { Guarded("more", [] { throw std::logic_error("other"); }); });
  } catch (const std::logic_error&) {
    passed = true;
  }
  CHECK(passed);
  CHECK(!WgpuHasPanicked());
#ifdef __ELF__
  CHECK_ERROR(Guarded("testing", [] { return Panic(); }), "failed while testing");
  CHECK(WgpuHasPanicked());
  CHECK_ERROR(Guarded("testing", [&] { return ++called; }), "has failed before");
  CHECK_EQUAL(called, 1);
#endif
}

}  // namespace
