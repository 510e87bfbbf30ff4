/*!
 * \file kernel_set.h
 * \brief The kernels of a library, and their pipelines on each device.
 */
#ifndef MLC_LLM_VULKAN_KERNEL_SET_H_
#define MLC_LLM_VULKAN_KERNEL_SET_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "context.h"
#include "kernel_source.h"
#include "pipelines.h"

namespace mlc_llm_vulkan {

/*!
 * \brief The kernels of one library.
 *
 * The first use on a device compiles all of them, in parallel: a model uses nearly all, and waits
 * less than when each is compiled at its first launch. A kernel that cannot be compiled says so
 * when it is launched.
 */
class KernelSet {
 public:
  explicit KernelSet(std::vector<KernelSource> sources) : sources_(std::move(sources)) {}
  KernelSet(const KernelSet&) = delete;
  KernelSet& operator=(const KernelSet&) = delete;

  const std::vector<KernelSource>& sources() const { return sources_; }

  /*!
   * \brief The pipeline of a kernel; compiles the set when the device has not yet used it.
   * \param kernel The kernel's place in sources().
   * \param index The device.
   */
  const Pipeline& PipelineOn(size_t kernel, int index);

  /*! \brief Compile for a device now. Does nothing when that was done. */
  void Build(int index);

 private:
  using Pipelines = std::vector<std::unique_ptr<Pipeline>>;

  /*! \brief Devices of one process; adapters behind them cannot be used. */
  static constexpr size_t kMostDevices = 64;

  Pipelines CompileAll(PipelineCompiler* compiler) const;

  std::vector<KernelSource> sources_;
  std::mutex build_mutex_;
  std::array<Pipelines, kMostDevices> pipelines_;
  std::array<std::atomic<bool>, kMostDevices> built_{};
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_KERNEL_SET_H_
