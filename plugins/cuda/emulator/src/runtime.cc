// CUDA's runtime API (libcudart.so.13), as far as TVM's runtime asks for it.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "device.h"
#include "error.h"
#include "memory.h"
#include "stream.h"
#include "threads.h"

using namespace emulator;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

thread_local int current_device = 0;

}  // namespace

extern "C" {

// --- Devices
// ---------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices();
  return *count ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices()) return cudaErrorInvalidDevice;
  current_device = device;
  return lasting_error();
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  if (device < 0 || device >= devices()) return cudaErrorInvalidDevice;
  *value = attribute(which);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= devices()) return cudaErrorInvalidDevice;
  memset(properties, 0, sizeof *properties);
  snprintf(properties->name, sizeof properties->name, "%s", device_name(device).c_str());
  properties->totalGlobalMem = memory_bytes();
  properties->major = compute_capability() / 10;
  properties->minor = compute_capability() % 10;
  properties->warpSize = kWarpSize;
  properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
  properties->sharedMemPerBlock = kSharedWithoutAsking;
  properties->sharedMemPerBlockOptin = kSharedLimit;
  properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
  properties->l2CacheSize = attribute(cudaDevAttrL2CacheSize);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() { return lasting_error(); }

// --- Memory
// ------------------------------------------------------------------------------------------

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Lock one_at_a_time(lock());
  *free = free_bytes(current_device);
  *total = memory_bytes();
  return lasting_error();
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
  Lock one_at_a_time(lock());
  if (lasting_error()) return lasting_error();
  if (cudaError_t refused = refusal()) return refused;
  *address = allocate(current_device, bytes);
  return *address ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFree(void* address) {
  Lock one_at_a_time(lock());
  if (address && !release(address)) return cudaErrorInvalidValue;
  return lasting_error();
}

cudaError_t cudaMallocHost(void** address, size_t bytes) {
  *address = malloc(bytes);
  return *address ? lasting_error() : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* address) {
  free(address);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  Lock one_at_a_time(lock());
  if (lasting_error()) return lasting_error();
  return submit(stream, [=] {
    Touch touch;
    memmove(to, from, bytes);
  });
}

cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes,
                                cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}

// --- Streams, events, graphs
// ---------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = create_stream(flags);
  return lasting_error();
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  destroy_stream(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return lasting_error(); }

cudaError_t cudaStreamSynchronize(cudaStream_t) {
  Lock one_at_a_time(lock());
  cudaError_t refused = refusal();
  return refused ? refused : lasting_error();
}

// Events are only told apart: each is a byte of its own.
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new char);
  return lasting_error();
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete reinterpret_cast<char*>(event);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return lasting_error(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return lasting_error(); }

// There is no time that would mean anything.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0.001f;
  return lasting_error();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Lock one_at_a_time(lock());
  cudaError_t refused = begin_capture(stream, mode);
  return refused ? refused : lasting_error();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Lock one_at_a_time(lock());
  cudaError_t refused = end_capture(stream, reinterpret_cast<Graph**>(graph));
  return refused ? refused : lasting_error();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  *executable = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return lasting_error();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  Lock one_at_a_time(lock());
  if (lasting_error()) return lasting_error();
  launch(*reinterpret_cast<Graph*>(executable));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<Graph*>(executable);
  return cudaSuccess;
}

// --- Errors
// ----------------------------------------------------------------------------------------------

const char* cudaGetErrorName(cudaError_t error) { return error_name(error); }
const char* cudaGetErrorString(cudaError_t error) { return error_text(error); }
cudaError_t cudaGetLastError() { return lasting_error(); }
cudaError_t cudaPeekAtLastError() { return lasting_error(); }
}
