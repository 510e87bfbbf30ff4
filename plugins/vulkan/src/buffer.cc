#include "buffer.h"

#include <atomic>
#include <memory>

#include "alignment.h"
#include "errors.h"
#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief Rooms are multiples of this, which is the alignment of WGSL's widest vectors. */
constexpr uint64_t kRoomAlignment = 16;

std::atomic<uint64_t> next_number{1};

}  // namespace

WGPUBuffer CreateBuffer(Device* device, uint64_t size, WGPUBufferUsage usage,
                        const std::string& purpose) {
  WGPUBufferDescriptor descriptor{};
  descriptor.usage = usage;
  descriptor.size = size;
  ErrorScope scope;
  const WGPUBuffer handle = Guarded(
      "allocating memory", [&] { return wgpu.DeviceCreateBuffer(device->handle(), &descriptor); });
  if (scope.failed() && handle != nullptr) wgpu.BufferRelease(handle);
  device->Check(scope, Concat(size, " bytes for ", purpose, " cannot be allocated"));
  return handle;
}

Buffer* AllocateBuffer(Device* device, uint64_t size, uint64_t in_use) {
  const uint64_t most = AlignDown(device->limits().maxBufferSize, kRoomAlignment);
  if (size > most) {
    throw Error(ErrorKind::kMemory,
                Concat(device->title(), " has no buffers larger than ", most,
                       " bytes, and a tensor of ", size, " bytes was asked for."));
  }
  auto buffer = std::make_unique<Buffer>();
  buffer->number = next_number++;
  buffer->size = size;
  buffer->room = size == 0 ? kRoomAlignment : AlignUp(size, kRoomAlignment);
  buffer->handle =
      CreateBuffer(device, buffer->room,
                   WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst,
                   Concat("a tensor, beside the ", in_use, " in use,"));
  return buffer.release();
}

void FreeBuffer(Buffer* buffer) {
  Guarded("freeing memory", [&] { wgpu.BufferRelease(buffer->handle); });
  delete buffer;
}

}  // namespace mlc_llm_vulkan
