// CUDA's driver API (libcuda.so.1), as far as TVM's runtime and mlc_llm ask for it.
#include <cuda.h>

#include <cstdio>
#include <cstring>
#include <memory>

#include "access.h"
#include "device.h"
#include "error.h"
#include "launch.h"
#include "memory.h"
#include "module.h"
#include "stream.h"
#include "trace.h"

using namespace emulator;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

// What a kernel was given when it was launched; it may run later, and again in a graph.
struct Launched {
  Kernel* kernel;
  std::vector<std::vector<char>> values;
  uint3 grid, block;
  size_t dynamic_shared;
};

void run_kernel(const Launched& launched) {
  if (lasting_error()) return;
  std::vector<void*> arguments;
  for (auto& value : launched.values) arguments.push_back(const_cast<char*>(value.data()));
  const GpuKernel& code = launched.kernel->code;
  Launch launch{&code, arguments.data(), launched.grid, launched.block, launched.dynamic_shared};
  Touch touch;
  begin_accesses(launch);
  std::string problem = run(launch);
  trace(launched.kernel->name, launch, end_accesses());
  if (problem.empty()) return;
  bool address = problem.rfind("an access", 0) == 0;
  bool misaligned = problem.rfind("a misaligned", 0) == 0;
  kernel_failed(address      ? cudaErrorIllegalAddress
                : misaligned ? cudaErrorMisalignedAddress
                             : cudaErrorLaunchFailure,
                launched.kernel->name + ": " + problem);
}

// Why a GPU would not start this, or nothing.
std::string launch_problem(const Kernel& kernel, const CUlaunchConfig& c) {
  uint64_t threads = uint64_t(c.blockDimX) * c.blockDimY * c.blockDimZ;
  size_t fixed = 0;
  for (auto& part : kernel.code.shared) fixed += part.end - part.begin;
  if (!c.gridDimX || !c.gridDimY || !c.gridDimZ) return "a grid without blocks";
  if (c.gridDimX > 0x7fffffff || c.gridDimY > 65535 || c.gridDimZ > 65535)
    return "too large a grid";
  if (!threads || threads > 1024 || c.blockDimZ > 64)
    return std::to_string(threads) + " threads in a block";
  if (kernel.code.most_threads && threads > kernel.code.most_threads)
    return std::to_string(threads) + " threads, and __launch_bounds__ says " +
           std::to_string(kernel.code.most_threads);
  if (fixed > kSharedWithoutAsking) return std::to_string(fixed) + " bytes of fixed shared memory";
  if (fixed + c.sharedMemBytes > (kernel.large_shared ? kSharedLimit : kSharedWithoutAsking))
    return std::to_string(fixed + c.sharedMemBytes) + " bytes of shared memory";
  return "";
}

CUresult copy_text(const char* from, const char** to) {
  *to = from;
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned) { return devices() ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE; }

CUresult cuDriverGetVersion(int* version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  *count = devices();
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= devices()) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* text, int bytes, CUdevice device) {
  snprintf(text, bytes, "%s", device_name(device).c_str());
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  *bytes = memory_bytes();
  return CUDA_SUCCESS;
}

// The numbers of both APIs are the same.
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute which, CUdevice) {
  *value = attribute(cudaDeviceAttr(which));
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult result, const char** text) {
  return copy_text(error_name(cudaError_t(result)), text);
}

CUresult cuGetErrorString(CUresult result, const char** text) {
  return copy_text(error_text(cudaError_t(result)), text);
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  Lock one_at_a_time(lock());
  if (lasting_error()) return CUresult(lasting_error());
  return Module::load(image, reinterpret_cast<Module**>(module));
}

CUresult cuModuleUnload(CUmodule module) {
  Lock one_at_a_time(lock());
  delete reinterpret_cast<Module*>(module);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  Lock one_at_a_time(lock());
  Kernel* kernel = reinterpret_cast<Module*>(module)->kernel(name);
  *function = reinterpret_cast<CUfunction>(kernel);
  return kernel ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  if (which != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
  if (size_t(value) > kSharedLimit) return CUDA_ERROR_INVALID_VALUE;
  reinterpret_cast<Kernel*>(function)->large_shared = true;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** arguments,
                          void**) {
  Lock one_at_a_time(lock());
  if (lasting_error()) return CUresult(lasting_error());
  auto* kernel = reinterpret_cast<Kernel*>(function);
  std::string problem = launch_problem(*kernel, *config);
  if (!problem.empty()) {
    complain(kernel->name + " cannot be launched: " + problem);
    return CUDA_ERROR_INVALID_VALUE;
  }
  Launched launched{kernel,
                    {},
                    {config->gridDimX, config->gridDimY, config->gridDimZ},
                    {config->blockDimX, config->blockDimY, config->blockDimZ},
                    config->sharedMemBytes};
  for (size_t i = 0; i < kernel->code.arguments; ++i) {
    auto* value = static_cast<const char*>(arguments[i]);
    launched.values.emplace_back(value, value + kernel->code.argument_bytes[i]);
  }
  return CUresult(submit(config->hStream, [launched] { run_kernel(launched); }));
}

// What only kernels with tensor maps need.
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
}
