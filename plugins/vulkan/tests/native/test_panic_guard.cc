#include <unwind.h>

#include <cstdlib>
#include <stdexcept>

#include "panic_guard.h"
#include "testing.h"

using mlc_llm_vulkan::Error;
using mlc_llm_vulkan::ErrorKind;
using mlc_llm_vulkan::Guarded;

namespace {

/*! \brief Freeing the exception ends the process, as it does for Rust's panics. */
void EndProcess(_Unwind_Reason_Code, _Unwind_Exception*) { std::abort(); }

/*! \brief An exception of another language. */
_Unwind_Exception panic;

int Panic() {
  panic = {};
  panic.exception_class = 0x4D4F5A0052555354;  // Rust's: "MOZ\0RUST"
  panic.exception_cleanup = EndProcess;
  _Unwind_RaiseException(&panic);
  return 0;
}

TEST(guarded_passes_results_and_errors) {
  CHECK_EQUAL(Guarded("testing", [] { return 5; }), 5);
  CHECK_ERROR(Guarded("testing", []() -> int { throw Error(ErrorKind::kValue, "mine"); }), "mine");
  bool passed = false;
  try {
    Guarded("testing", [] { throw std::logic_error("other"); });
  } catch (const std::logic_error&) {
    passed = true;
  }
  CHECK(passed);
}

TEST(panics_become_errors_again_and_again) {
  for (int i = 0; i < 3; ++i) {
    CHECK_ERROR(Guarded("testing", [] { return Panic(); }), "failed while testing");
  }
}

}  // namespace
