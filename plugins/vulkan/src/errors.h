/*!
 * \file errors.h
 * \brief The one exception type of this library, and helpers to write its messages.
 *
 * Nothing below device_api.cc and wgsl_module.cc knows TVM's exceptions: what is thrown here is
 * turned into them at that boundary (boundary.h).
 */
#ifndef MLC_LLM_VULKAN_ERRORS_H_
#define MLC_LLM_VULKAN_ERRORS_H_

#include <sstream>
#include <stdexcept>
#include <string>

namespace mlc_llm_vulkan {

/*! \brief Which Python exception an error becomes. */
enum class ErrorKind {
  kRuntime, /*!< RuntimeError: the device, the driver or wgpu-native failed. */
  kValue,   /*!< ValueError: the caller asked for something that cannot be. */
  kMemory,  /*!< MemoryError: the device has not the memory. */
};

/*! \brief An error with a message for the person who meets it. */
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/*! \brief Join values into one text, as `operator<<` writes them. */
template <typename... Values>
std::string Concat(const Values&... values) {
  std::ostringstream text;
  (text << ... << values);
  return text.str();
}

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_ERRORS_H_
