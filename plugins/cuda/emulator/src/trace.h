// A line of JSON for each launch, in the file that GPU_EMULATOR_TRACE names.
#pragma once
#include <string>

#include "access.h"
#include "launch.h"

namespace emulator {

void trace(const std::string& kernel, const Launch& launch, const Accesses& accesses);

}  // namespace emulator
