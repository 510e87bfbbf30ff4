#include "device.h"

#include <utility>
#include <vector>

namespace mlc_llm_vulkan {
namespace {

/*! \brief How wgpu-native's errors say that the device is lost. */
constexpr char kDeviceLost[] = "device is lost";

/*! \brief What requesting a device answers. */
struct Answer {
  WGPUDevice device = nullptr;
  std::string message;
};

void OnDevice(WGPURequestDeviceStatus status, WGPUDevice device, WGPUStringView message,
              void* userdata, void*) {
  auto* const answer = static_cast<Answer*>(userdata);
  if (status == WGPURequestDeviceStatus_Success) answer->device = device;
  answer->message = ToString(message);
}

const Adapter& AdapterAt(int index) {
  const std::vector<Adapter>& adapters = Adapters();
  if (index < 0 || static_cast<size_t>(index) >= adapters.size()) {
    throw Error(ErrorKind::kValue, Concat("There is no Vulkan device ", index, ": Vulkan knows ",
                                          adapters.size(), " here."));
  }
  return adapters[static_cast<size_t>(index)];
}

std::vector<WGPUFeatureName> WantedFeatures(const Adapter& adapter) {
  std::vector<WGPUFeatureName> features;
  const auto want = [&](bool there, int feature) {
    if (there) features.push_back(static_cast<WGPUFeatureName>(feature));
  };
  want(adapter.shader_f16, WGPUFeatureName_ShaderF16);
  want(adapter.shader_int64, WGPUNativeFeature_ShaderInt64);
  want(adapter.subgroups, WGPUNativeFeature_Subgroup);
  want(adapter.subgroup_barrier, WGPUNativeFeature_SubgroupBarrier);
  return features;
}

}  // namespace

Device::Device(int index)
    : adapter_(AdapterAt(index)),
      title_(Concat("Vulkan device ", index, " (", adapter_.name, ")")) {
  const std::vector<WGPUFeatureName> features = WantedFeatures(adapter_);
  WGPUDeviceDescriptor descriptor{};
  descriptor.requiredFeatureCount = features.size();
  descriptor.requiredFeatures = features.data();
  descriptor.requiredLimits = &adapter_.limits;
  descriptor.uncapturedErrorCallbackInfo.callback = ErrorScope::OnUncapturedError;
  descriptor.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowSpontaneous;
  descriptor.deviceLostCallbackInfo.callback = OnLost;
  descriptor.deviceLostCallbackInfo.userdata1 = this;
  Answer answer;
  WGPURequestDeviceCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_AllowSpontaneous;
  callback.callback = OnDevice;
  callback.userdata1 = &answer;
  Guarded("opening a Vulkan device",
          [&] { wgpu.AdapterRequestDevice(adapter_.handle, &descriptor, callback); });
  if (answer.device == nullptr) {
    throw Error(ErrorKind::kRuntime, Concat(title_, " cannot be opened: ", answer.message));
  }
  handle_ = answer.device;
  queue_ = wgpu.DeviceGetQueue(handle_);
}

void Device::Check(const ErrorScope& scope, const std::string& what) {
  if (!scope.failed()) return;
  RequireAlive();
  if (scope.message().find(kDeviceLost) != std::string::npos) {
    MarkLost(scope.message());
    ThrowLost();
  }
  const ErrorKind kind = scope.out_of_memory() ? ErrorKind::kMemory : ErrorKind::kRuntime;
  throw Error(kind, Concat(what, " on ", title_, ": ", scope.message()));
}

WGPUSubmissionIndex Device::Submit(WGPUCommandBuffer commands) {
  return OnQueue("handing over commands", [&] {
    return wgpu.QueueSubmitForIndex(queue_, commands == nullptr ? 0 : 1, &commands);
  });
}

void Device::Wait(const WGPUSubmissionIndex* submission) {
  OnQueue("waiting for commands", [&] { return wgpu.DevicePoll(handle_, 1, submission); });
  RequireAlive();
}

void Device::Destroy(bool in_submission) {
  RequireAlive();
  heeds_callback_ = !in_submission;
  if (!in_submission) MarkLost("it was given up");
  wgpu.DeviceDestroy(handle_);
  if (in_submission) Submit(nullptr);
}

void Device::OnLost(WGPUDevice const*, WGPUDeviceLostReason, WGPUStringView message, void* self,
                    void*) {
  auto* const device = static_cast<Device*>(self);
  if (device->heeds_callback_) device->MarkLost(ToString(message));
}

void Device::MarkLost(const std::string& reason) {
  std::lock_guard<std::mutex> lock(reason_mutex_);
  // The first reason is the cause; what follows from it says less.
  if (lost_.load(std::memory_order_relaxed)) return;
  reason_ = reason.empty() ? "the driver gives no reason" : reason;
  lost_.store(true, std::memory_order_release);
}

void Device::ThrowLost() const {
  std::lock_guard<std::mutex> lock(reason_mutex_);
  throw Error(ErrorKind::kRuntime,
              Concat(title_, " is lost (", reason_.empty() ? "wgpu-native has failed" : reason_,
                     "), and with it all that was in its memory. Start the program again; when it "
                     "happens again, update the driver or use less of the device's memory."));
}

template <typename Call>
auto Device::OnQueue(const char* what, Call call) -> decltype(call()) {
  RequireAlive();
  try {
    return Guarded(what, call);
  } catch (const Error& error) {
    // wgpu-native panics here only when the device cannot go on.
    MarkLost(error.what());
    ThrowLost();
  }
}

}  // namespace mlc_llm_vulkan
