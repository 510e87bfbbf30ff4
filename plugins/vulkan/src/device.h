/*!
 * \file device.h
 * \brief An opened device: its queue, limits, and whether it is lost.
 */
#ifndef MLC_LLM_VULKAN_DEVICE_H_
#define MLC_LLM_VULKAN_DEVICE_H_

#include <atomic>
#include <mutex>
#include <string>

#include "adapters.h"
#include "error_scope.h"
#include "errors.h"
#include "panic_guard.h"
#include "wgpu_api.h"

namespace mlc_llm_vulkan {

/*! \brief A WebGPU device and its queue. Lives as long as the process. */
class Device {
 public:
  /*!
   * \brief Open an adapter with all its limits and the features that kernels use.
   * \param index Its place in Adapters().
   * \throws Error The driver refuses.
   */
  explicit Device(int index);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  WGPUDevice handle() const { return handle_; }
  WGPUQueue queue() const { return queue_; }
  const Adapter& adapter() const { return adapter_; }
  const WGPULimits& limits() const { return adapter_.limits; }

  /*! \brief The device's name for errors: `Vulkan device 0 (...)`. */
  const std::string& title() const { return title_; }

  /*! \brief Throw when the device is lost. Call this before any other call of wgpu-native. */
  void RequireAlive() const {
    if (lost()) ThrowLost();
  }
  bool lost() const { return lost_.load(std::memory_order_acquire) || WgpuHasPanicked(); }

  /*!
   * \brief Throw when a scope has caught an error.
   * \param scope The scope around the calls.
   * \param what What failed, such as `The kernel add cannot be compiled`.
   */
  void Check(const ErrorScope& scope, const std::string& what);

  /*!
   * \brief Hand commands to the queue.
   * \param commands One command buffer, or null for none. Not released here.
   * \return The submission's number, for Wait.
   */
  WGPUSubmissionIndex Submit(WGPUCommandBuffer commands);

  /*!
   * \brief Wait until a submission, or everything that was submitted, is done.
   * \param submission Its number, or null for everything.
   */
  void Wait(const WGPUSubmissionIndex* submission);

  /*!
   * \brief Give the device up, as a loss does.
   * \param in_submission Whether to find out about the loss while commands are handed over, where
   * wgpu-native panics; this then throws.
   */
  void Destroy(bool in_submission);

 private:
  static void OnLost(WGPUDevice const* device, WGPUDeviceLostReason reason, WGPUStringView message,
                     void* self, void* unused);
  void MarkLost(const std::string& reason);
  [[noreturn]] void ThrowLost() const;
  template <typename Call>
  auto OnQueue(const char* what, Call call) -> decltype(call());

  const Adapter& adapter_;
  std::string title_;
  WGPUDevice handle_ = nullptr;
  WGPUQueue queue_ = nullptr;
  std::atomic<bool> lost_{false};
  std::atomic<bool> heeds_callback_{true};
  mutable std::mutex reason_mutex_;
  std::string reason_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_DEVICE_H_
