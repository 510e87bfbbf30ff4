#include "settings.h"

#include <cstdlib>

namespace emulator {

std::string setting(const char* name, const char* otherwise) {
  const char* text = getenv((std::string("GPU_EMULATOR_") + name).c_str());
  return text && *text ? text : otherwise;
}

uint64_t number_setting(const char* name, uint64_t otherwise) {
  std::string text = setting(name, "");
  return text.empty() ? otherwise : strtoull(text.c_str(), nullptr, 10);
}

}  // namespace emulator
