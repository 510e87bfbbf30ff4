/*!
 * \file error_scope.h
 * \brief Catches the errors that wgpu-native reports during calls.
 */
#ifndef MLC_LLM_VULKAN_ERROR_SCOPE_H_
#define MLC_LLM_VULKAN_ERROR_SCOPE_H_

#include <string>

#include "wgpu_api.h"

namespace mlc_llm_vulkan {

/*!
 * \brief Collects what wgpu-native reports on this thread while the object lives.
 *
 * wgpu-native calls the callback for uncaptured errors from within the failing call. Scopes may be
 * nested; the innermost one gets the error. What is reported outside of any scope is dropped: it
 * concerns an object that an earlier error made invalid.
 */
class ErrorScope {
 public:
  ErrorScope();
  ~ErrorScope();
  ErrorScope(const ErrorScope&) = delete;
  ErrorScope& operator=(const ErrorScope&) = delete;

  bool failed() const { return !message_.empty(); }
  bool out_of_memory() const { return out_of_memory_; }

  /*! \brief The first error's text, which names its cause last. */
  const std::string& message() const { return message_; }

  /*! \brief The callback for WGPUDeviceDescriptor. */
  static void OnUncapturedError(WGPUDevice const* device, WGPUErrorType type,
                                WGPUStringView message, void* userdata1, void* userdata2);

 private:
  ErrorScope* outer_;
  std::string message_;
  bool out_of_memory_ = false;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_ERROR_SCOPE_H_
