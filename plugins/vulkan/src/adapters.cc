#include "adapters.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "errors.h"
#include "fork_guard.h"
#include "json.h"
#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief Set to 1, it turns on Vulkan's validation layer; its messages go to stderr. */
constexpr char kValidationVariable[] = "MLC_LLM_VULKAN_VALIDATION";

std::mutex path_mutex;
std::string wgpu_path;

bool ValidationWanted() {
  const char* const value = std::getenv(kValidationVariable);
  return value != nullptr && std::string(value) == "1";
}

void PrintMessage(WGPULogLevel, WGPUStringView message, void*) {
  std::fprintf(stderr, "vulkan: %s\n", ToString(message).c_str());
}

WGPUInstance CreateInstance() {
  WGPUInstanceExtras extras{};
  extras.chain.sType = static_cast<WGPUSType>(WGPUSType_InstanceExtras);
  extras.backends = WGPUInstanceBackend_Vulkan;
  extras.flags = WGPUInstanceFlag_DiscardHalLabels;
  if (ValidationWanted()) {
    // wgpu-native listens to the layer only with the flag for debugging.
    extras.flags |= WGPUInstanceFlag_Validation | WGPUInstanceFlag_Debug;
    wgpu.SetLogCallback(PrintMessage, nullptr);
    wgpu.SetLogLevel(WGPULogLevel_Warn);
  }
  WGPUInstanceDescriptor descriptor{};
  descriptor.nextInChain = &extras.chain;
  return wgpu.CreateInstance(&descriptor);
}

const char* TypeName(WGPUAdapterType type) {
  switch (type) {
    case WGPUAdapterType_DiscreteGPU:
      return "discrete";
    case WGPUAdapterType_IntegratedGPU:
      return "integrated";
    case WGPUAdapterType_CPU:
      return "cpu";
    default:
      return "other";
  }
}

template <typename Feature>
bool Has(WGPUAdapter adapter, Feature feature) {
  return wgpu.AdapterHasFeature(adapter, static_cast<WGPUFeatureName>(feature)) != 0;
}

Adapter Describe(WGPUAdapter handle) {
  Adapter adapter;
  adapter.handle = handle;
  WGPUAdapterInfo info{};
  wgpu.AdapterGetInfo(handle, &info);
  adapter.name = ToString(info.device);
  adapter.type = TypeName(info.adapterType);
  adapter.driver = ToString(info.vendor);
  adapter.driver_info = ToString(info.description);
  adapter.vendor_id = info.vendorID;
  adapter.device_id = info.deviceID;
  wgpu.AdapterGetLimits(handle, &adapter.limits);
  adapter.limits.nextInChain = nullptr;
  adapter.shader_f16 = Has(handle, WGPUFeatureName_ShaderF16);
  adapter.shader_int64 = Has(handle, WGPUNativeFeature_ShaderInt64);
  adapter.subgroups = Has(handle, WGPUNativeFeature_Subgroup);
  adapter.subgroup_barrier = Has(handle, WGPUNativeFeature_SubgroupBarrier);
  if (adapter.subgroups) {
    adapter.subgroup_min = info.subgroupMinSize;
    adapter.subgroup_max = info.subgroupMaxSize;
  }
  wgpu.AdapterInfoFreeMembers(info);
  return adapter;
}

std::vector<Adapter> FindAdapters() {
  std::string path;
  {
    std::lock_guard<std::mutex> lock(path_mutex);
    path = wgpu_path;
  }
  OpenWgpu(path);
  WatchForForks();
  return Guarded("looking for Vulkan devices", [] {
    std::vector<Adapter> adapters;
    const WGPUInstance instance = CreateInstance();
    if (instance == nullptr) return adapters;
    WGPUInstanceEnumerateAdapterOptions options{};
    options.backends = WGPUInstanceBackend_Vulkan;
    std::vector<WGPUAdapter> handles(wgpu.InstanceEnumerateAdapters(instance, &options, nullptr));
    handles.resize(wgpu.InstanceEnumerateAdapters(instance, &options, handles.data()));
    for (const WGPUAdapter handle : handles) adapters.push_back(Describe(handle));
    // Those that compute on the CPU come last, so that index 0 is a GPU where there is one.
    std::stable_partition(adapters.begin(), adapters.end(),
                          [](const Adapter& adapter) { return adapter.type != "cpu"; });
    return adapters;
  });
}

std::string LimitsJson(const WGPULimits& limits) {
  return JsonObject()
      .Number("max_buffer_size", limits.maxBufferSize)
      .Number("max_storage_buffer_binding_size", limits.maxStorageBufferBindingSize)
      .Number("max_storage_buffers_per_shader_stage", limits.maxStorageBuffersPerShaderStage)
      .Number("max_compute_workgroup_storage_size", limits.maxComputeWorkgroupStorageSize)
      .Number("max_compute_invocations_per_workgroup", limits.maxComputeInvocationsPerWorkgroup)
      .Number("max_compute_workgroup_size_x", limits.maxComputeWorkgroupSizeX)
      .Number("max_compute_workgroup_size_y", limits.maxComputeWorkgroupSizeY)
      .Number("max_compute_workgroup_size_z", limits.maxComputeWorkgroupSizeZ)
      .Number("max_compute_workgroups_per_dimension", limits.maxComputeWorkgroupsPerDimension)
      .Number("min_uniform_buffer_offset_alignment", limits.minUniformBufferOffsetAlignment)
      .str();
}

std::string AdapterJson(const Adapter& adapter) {
  const std::string features = JsonObject()
                                   .Bool("shader_f16", adapter.shader_f16)
                                   .Bool("shader_int64", adapter.shader_int64)
                                   .Bool("subgroups", adapter.subgroups)
                                   .Bool("subgroup_barrier", adapter.subgroup_barrier)
                                   .str();
  return JsonObject()
      .String("name", adapter.name)
      .String("type", adapter.type)
      .Number("vendor", adapter.vendor_id)
      .Number("device_id", adapter.device_id)
      .String("driver", adapter.driver)
      .String("driver_info", adapter.driver_info)
      .Raw("api_version", "null")
      .Raw("memory", "null")
      .Number("subgroup_min_size", adapter.subgroup_min)
      .Number("subgroup_max_size", adapter.subgroup_max)
      .Raw("limits", LimitsJson(adapter.limits))
      .Raw("features", features)
      .str();
}

}  // namespace

void SetWgpuPath(const std::string& path) {
  std::lock_guard<std::mutex> lock(path_mutex);
  wgpu_path = path;
}

const std::vector<Adapter>& Adapters() {
  // Before the lock of a static object, too: another thread of the parent may hold it for good.
  RequireNotForked();
  // Kept for good: tensors may be freed after static objects.
  static const std::vector<Adapter>* const adapters = new std::vector<Adapter>(FindAdapters());
  return *adapters;
}

std::string AdaptersJson() {
  std::string list;
  for (const Adapter& adapter : Adapters()) {
    if (!list.empty()) list += ", ";
    list += AdapterJson(adapter);
  }
  return '[' + list + ']';
}

}  // namespace mlc_llm_vulkan
