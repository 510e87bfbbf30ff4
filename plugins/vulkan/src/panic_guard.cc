#include "panic_guard.h"

#ifndef _MSC_VER
#include <cxxabi.h>
#endif

namespace mlc_llm_vulkan {

#ifndef _MSC_VER

namespace {

/*! \brief What `__cxa_get_globals` points to, by the Itanium C++ ABI. */
struct ExceptionGlobals {
  void* caught_exceptions;
  unsigned int uncaught_exceptions;
};

}  // namespace

void DisownPanic() {
  // The end of the handler frees the first caught exception; with none, it frees nothing.
  reinterpret_cast<ExceptionGlobals*>(abi::__cxa_get_globals())->caught_exceptions = nullptr;
}

#else

// Microsoft's ABI has no way to keep the exception; Rust then ends the process with a message.
void DisownPanic() {}

#endif

}  // namespace mlc_llm_vulkan
