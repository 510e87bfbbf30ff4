// The variables of the environment that the emulated GPU looks at. They are read whenever they are
// needed, so that a program may change them.
#pragma once
#include <cstdint>
#include <string>

namespace emulator {

// The value of GPU_EMULATOR_<name>.
std::string setting(const char* name, const char* otherwise);
uint64_t number_setting(const char* name, uint64_t otherwise);

}  // namespace emulator
