/*!
 * \file panic_guard.h
 * \brief Turns panics of wgpu-native into errors.
 *
 * wgpu-native reports most errors to callbacks, but panics for some, such as a device that is lost
 * while a submission is handed over. Its functions let a panic unwind into their caller.
 */
#ifndef MLC_LLM_VULKAN_PANIC_GUARD_H_
#define MLC_LLM_VULKAN_PANIC_GUARD_H_

#include <exception>
#include <utility>

#include "errors.h"

namespace mlc_llm_vulkan {

/*!
 * \brief Let go of the panic that is being handled, inside `catch (...)`.
 *
 * Rust ends the process when another language's handler frees its panic. So it is not freed: a few
 * hundred bytes are lost.
 */
void DisownPanic();

/*!
 * \brief Call wgpu-native, and throw an Error when it panics.
 * \param what What was being done, for the error.
 * \param call The call.
 */
template <typename Call>
auto Guarded(const char* what, Call&& call) -> decltype(call()) {
  try {
    return std::forward<Call>(call)();
  } catch (const std::exception&) {
    throw;
  } catch (...) {
    DisownPanic();
    throw Error(ErrorKind::kRuntime, Concat("wgpu-native failed while ", what, '.'));
  }
}

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_PANIC_GUARD_H_
