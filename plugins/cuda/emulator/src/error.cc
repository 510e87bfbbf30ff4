#include "error.h"

#include <cstdio>

namespace emulator {
namespace {

cudaError_t lasting = cudaSuccess;
std::string lasting_text;

struct Known {
  cudaError_t error;
  const char *name, *text;
};
#define KNOWN(name, text) {name, #name, text}
const Known kKnown[] = {
    KNOWN(cudaSuccess, "no error"),
    KNOWN(cudaErrorInvalidValue, "invalid argument"),
    KNOWN(cudaErrorMemoryAllocation, "out of memory"),
    KNOWN(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    KNOWN(cudaErrorInvalidDevice, "invalid device ordinal"),
    KNOWN(cudaErrorInvalidKernelImage, "device kernel image is invalid"),
    KNOWN(cudaErrorNoKernelImageForDevice,
          "no kernel image is available for execution on the device"),
    KNOWN(cudaErrorSymbolNotFound, "named symbol not found"),
    KNOWN(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    KNOWN(cudaErrorMisalignedAddress, "misaligned address"),
    KNOWN(cudaErrorLaunchFailure, "unspecified launch failure"),
    KNOWN(cudaErrorNotSupported, "operation not supported"),
    KNOWN(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    KNOWN(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    KNOWN(cudaErrorStreamCaptureImplicit,
          "operation would make the legacy stream depend on a capturing blocking stream"),
};
#undef KNOWN

const Known& known(cudaError_t error) {
  static const Known other{error, "cudaErrorUnknown", "unknown error"};
  for (const Known& one : kKnown)
    if (one.error == error) return one;
  return other;
}

}  // namespace

void kernel_failed(cudaError_t error, const std::string& why) {
  complain(why);
  if (lasting) return;
  lasting = error;
  lasting_text = std::string(known(error).text) + " (GPU emulator: " + why + ")";
}

cudaError_t lasting_error() { return lasting; }

void complain(const std::string& why) { fprintf(stderr, "GPU emulator: %s\n", why.c_str()); }

const char* error_name(cudaError_t error) { return known(error).name; }

const char* error_text(cudaError_t error) {
  return error && error == lasting ? lasting_text.c_str() : known(error).text;
}

std::recursive_mutex& lock() {
  static std::recursive_mutex mutex;
  return mutex;
}

}  // namespace emulator
