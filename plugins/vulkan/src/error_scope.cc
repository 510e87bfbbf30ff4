#include "error_scope.h"

#include <sstream>

namespace mlc_llm_vulkan {
namespace {

thread_local ErrorScope* innermost = nullptr;

/*! \brief Whether a line only leads to the reason, as in "Caused by:". */
bool IsHeading(const std::string& line) {
  const size_t start = line.find_first_not_of(' ');
  if (start == std::string::npos) return true;
  const std::string text = line.substr(start);
  return text == "Validation Error" || text == "Caused by:" || text.compare(0, 7, "In wgpu") == 0;
}

/*! \brief The lines of wgpu-native's message that say something. */
std::string Condense(const std::string& message) {
  std::istringstream lines(message);
  std::string condensed;
  for (std::string line; std::getline(lines, line);) {
    if (IsHeading(line)) continue;
    if (!condensed.empty()) condensed += '\n';
    condensed += condensed.empty() ? line.substr(line.find_first_not_of(' ')) : line;
  }
  return condensed.empty() ? "wgpu-native gives no reason" : condensed;
}

/*! \brief What wgpu-native says of memory, also in errors of the type for validation. */
constexpr char kNoMemory[] = "Not enough memory";

}  // namespace

ErrorScope::ErrorScope() : outer_(innermost) { innermost = this; }

ErrorScope::~ErrorScope() { innermost = outer_; }

void ErrorScope::OnUncapturedError(WGPUDevice const*, WGPUErrorType type, WGPUStringView message,
                                   void*, void*) {
  ErrorScope* const scope = innermost;
  if (scope == nullptr || scope->failed()) return;
  scope->message_ = Condense(ToString(message));
  scope->out_of_memory_ =
      type == WGPUErrorType_OutOfMemory || scope->message_.find(kNoMemory) != std::string::npos;
}

}  // namespace mlc_llm_vulkan
