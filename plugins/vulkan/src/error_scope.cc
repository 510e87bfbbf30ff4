#include "error_scope.h"

namespace mlc_llm_vulkan {
namespace {

thread_local ErrorScope* innermost = nullptr;

/*! \brief Drop the blank lines and the heading that wgpu-native begins its messages with. */
std::string Condense(const std::string& message) {
  std::string condensed;
  for (const char letter : message) {
    const bool second_break = letter == '\n' && (condensed.empty() || condensed.back() == '\n');
    if (!second_break) condensed += letter;
  }
  while (!condensed.empty() && condensed.back() == '\n') condensed.pop_back();
  return condensed.empty() ? "no reason given" : condensed;
}

}  // namespace

ErrorScope::ErrorScope() : outer_(innermost) { innermost = this; }

ErrorScope::~ErrorScope() { innermost = outer_; }

void ErrorScope::OnUncapturedError(WGPUDevice const*, WGPUErrorType type, WGPUStringView message,
                                   void*, void*) {
  ErrorScope* const scope = innermost;
  if (scope == nullptr || scope->failed()) return;
  scope->message_ = Condense(ToString(message));
  scope->out_of_memory_ = type == WGPUErrorType_OutOfMemory;
}

}  // namespace mlc_llm_vulkan
