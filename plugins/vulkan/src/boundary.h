/*!
 * \file boundary.h
 * \brief Where this library's errors become TVM's.
 */
#ifndef MLC_LLM_VULKAN_BOUNDARY_H_
#define MLC_LLM_VULKAN_BOUNDARY_H_

#include <tvm/ffi/error.h>

#include <utility>

#include "errors.h"

namespace mlc_llm_vulkan {

/*! \brief The name of the Python exception for an error. */
inline const char* PythonName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kValue:
      return "ValueError";
    case ErrorKind::kMemory:
      return "MemoryError";
    default:
      return "RuntimeError";
  }
}

/*! \brief Run what TVM has called, and throw TVM's error for ours. */
template <typename Call>
auto AtBoundary(Call&& call) -> decltype(call()) {
  try {
    return std::forward<Call>(call)();
  } catch (const Error& error) {
    throw tvm::ffi::Error(PythonName(error.kind()), error.what(), "");
  }
}

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_BOUNDARY_H_
