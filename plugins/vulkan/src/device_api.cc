#include "device_api.h"

#include <tvm/ffi/string.h>

#include <string>
#include <vector>

#include "boundary.h"
#include "context.h"

namespace mlc_llm_vulkan {
namespace {

using tvm::Device;
using tvm::ffi::Any;
using tvm::runtime::DeviceAttrKind;

thread_local int current_device = 0;

const Buffer& AsBuffer(const void* data) { return *static_cast<const Buffer*>(data); }

const Adapter* FindAdapter(int index) {
  const std::vector<Adapter>& adapters = Adapters();
  const bool there = index >= 0 && static_cast<size_t>(index) < adapters.size();
  return there ? &adapters[static_cast<size_t>(index)] : nullptr;
}

const Adapter& RequireAdapter(int index) {
  if (const Adapter* const adapter = FindAdapter(index)) return *adapter;
  throw Error(ErrorKind::kValue, Concat("There is no Vulkan device ", index, '.'));
}

/*! \brief TVM's attributes, as far as WebGPU knows them; the others stay None. */
Any Attribute(const Adapter& adapter, DeviceAttrKind kind) {
  const WGPULimits& limits = adapter.limits;
  switch (kind) {
    case tvm::runtime::kMaxThreadsPerBlock:
      return static_cast<int64_t>(limits.maxComputeInvocationsPerWorkgroup);
    case tvm::runtime::kWarpSize:
      return static_cast<int64_t>(adapter.subgroup_min == 0 ? 1 : adapter.subgroup_min);
    case tvm::runtime::kMaxSharedMemoryPerBlock:
      return static_cast<int64_t>(limits.maxComputeWorkgroupStorageSize);
    case tvm::runtime::kDeviceName:
      return tvm::ffi::String(adapter.name);
    case tvm::runtime::kDriverVersion:
      return tvm::ffi::String(adapter.driver_info);
    case tvm::runtime::kMaxThreadDimensions:
      return tvm::ffi::String(Concat('[', limits.maxComputeWorkgroupSizeX, ", ",
                                     limits.maxComputeWorkgroupSizeY, ", ",
                                     limits.maxComputeWorkgroupSizeZ, ']'));
    default:
      return Any();
  }
}

/*! \brief The properties that TVM's Vulkan target names, as far as WebGPU knows them. */
Any Property(const Adapter& adapter, const std::string& name) {
  const WGPULimits& limits = adapter.limits;
  if (name == "supports_float16") return adapter.shader_f16;
  if (name == "supports_int64") return adapter.shader_int64;
  if (name == "device_name") return tvm::ffi::String(adapter.name);
  if (name == "max_num_threads") {
    return static_cast<int64_t>(limits.maxComputeInvocationsPerWorkgroup);
  }
  if (name == "max_shared_memory_per_block") {
    return static_cast<int64_t>(limits.maxComputeWorkgroupStorageSize);
  }
  if (name == "max_storage_buffer_range") {
    return static_cast<int64_t>(limits.maxStorageBufferBindingSize);
  }
  return Any();
}

class DeviceApi final : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(Device device) final { current_device = device.device_id; }

  void GetAttr(Device device, DeviceAttrKind kind, Any* value) final {
    *value = AtBoundary([&]() -> Any {
      if (kind == tvm::runtime::kExist) return FindAdapter(device.device_id) == nullptr ? 0 : 1;
      return Attribute(RequireAdapter(device.device_id), kind);
    });
  }

  void GetTargetProperty(Device device, const std::string& name, Any* value) final {
    *value = AtBoundary([&] { return Property(RequireAdapter(device.device_id), name); });
  }

  using DeviceAPI::AllocDataSpace;
  void* AllocDataSpace(Device device, size_t size, size_t, DLDataType) final {
    return AtBoundary([&] { return Context::Get(device.device_id).Allocate(size); });
  }

  void FreeDataSpace(Device device, void* data) final {
    if (Context* const context = Context::Find(device.device_id)) {
      context->Free(static_cast<Buffer*>(data));
    }
  }

  void StreamSync(Device device, TVMStreamHandle) final {
    AtBoundary([&] { Context::Get(device.device_id).Synchronize(); });
  }

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset, size_t size,
                      Device from_device, Device to_device, DLDataType, TVMStreamHandle) final {
    AtBoundary([&] {
      if (from_device.device_type == kDLCPU) {
        Context::Get(to_device.device_id)
            .Upload(static_cast<const char*>(from) + from_offset, AsBuffer(to), to_offset, size);
      } else if (to_device.device_type == kDLCPU) {
        Context::Get(from_device.device_id)
            .Download(AsBuffer(from), from_offset, static_cast<char*>(to) + to_offset, size);
      } else if (from_device.device_id == to_device.device_id) {
        Context::Get(to_device.device_id)
            .Copy(AsBuffer(from), from_offset, AsBuffer(to), to_offset, size);
      } else {
        CopyBetweenDevices(from, from_offset, to, to_offset, size, from_device, to_device);
      }
    });
  }

 private:
  static void CopyBetweenDevices(const void* from, size_t from_offset, void* to, size_t to_offset,
                                 size_t size, Device from_device, Device to_device) {
    std::vector<char> bytes(size);
    Context::Get(from_device.device_id).Download(AsBuffer(from), from_offset, bytes.data(), size);
    Context::Get(to_device.device_id).Upload(bytes.data(), AsBuffer(to), to_offset, size);
  }
};

}  // namespace

tvm::runtime::DeviceAPI* VulkanDeviceApi() {
  static auto* const api = new DeviceApi();
  return api;
}

int CurrentDevice() { return current_device; }

}  // namespace mlc_llm_vulkan
