// Errors that stay. After a kernel has failed, a GPU refuses the process everything, with the
// same error; it is told only by the next call, since the launch itself has long returned.
#pragma once
#include <cuda_runtime_api.h>

#include <mutex>
#include <string>

namespace emulator {

// Remembers the first failure of a kernel, and writes it to stderr.
void kernel_failed(cudaError_t error, const std::string& why);
// What every call returns that has nothing else to complain of.
cudaError_t lasting_error();
// Writes to stderr why a call is refused.
void complain(const std::string& why);
// The name of an error, and what it means; for that of a kernel, also what the emulator saw.
const char* error_name(cudaError_t error);
const char* error_text(cudaError_t error);

// One call at a time: programs may have several threads, and the emulated threads are one.
std::recursive_mutex& lock();

}  // namespace emulator
