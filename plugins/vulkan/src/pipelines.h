/*!
 * \file pipelines.h
 * \brief Compiles kernels, and keeps the layouts that they share.
 */
#ifndef MLC_LLM_VULKAN_PIPELINES_H_
#define MLC_LLM_VULKAN_PIPELINES_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "device.h"
#include "kernel_source.h"

namespace mlc_llm_vulkan {

/*! \brief A bind group layout. Kernels with the same kinds of parameters share one. */
struct Layout {
  WGPUBindGroupLayout group = nullptr;
  WGPUPipelineLayout pipeline = nullptr;
  uint64_t number = 0; /*!< Given once for each device. */
  uint32_t uniform_bytes = 0;
};

/*! \brief A kernel compiled for a device, or why it could not be. */
class Pipeline {
 public:
  Pipeline(WGPUComputePipeline handle, const Layout* layout) : handle_(handle), layout_(layout) {}
  explicit Pipeline(Error error) : error_(std::move(error)) {}
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;
  ~Pipeline();

  /*! \brief The pipeline, or throws what its compilation threw. */
  WGPUComputePipeline handle() const {
    if (handle_ == nullptr) throw error_;
    return handle_;
  }
  const Layout& layout() const { return *layout_; }

 private:
  WGPUComputePipeline handle_ = nullptr;
  const Layout* layout_ = nullptr;
  Error error_{ErrorKind::kRuntime, ""};
};

/*! \brief The compiler of one device. Thread-safe. */
class PipelineCompiler {
 public:
  explicit PipelineCompiler(Device* device) : device_(device) {}
  PipelineCompiler(const PipelineCompiler&) = delete;
  PipelineCompiler& operator=(const PipelineCompiler&) = delete;

  /*!
   * \brief Compile a kernel.
   * \throws Error It exceeds the device's limits, or its WGSL is refused.
   */
  std::unique_ptr<Pipeline> Compile(const KernelSource& kernel);

  /*! \brief How many kernels were compiled. */
  uint64_t compiled() const { return compiled_.load(); }

 private:
  const Layout* LayoutFor(const LaunchSpec& spec);
  Layout CreateLayout(const LaunchSpec& spec) const;
  WGPUShaderModule CreateShader(const KernelSource& kernel) const;

  Device* device_;
  std::atomic<uint64_t> compiled_{0};
  std::mutex mutex_;
  /*! By a flag for each buffer, and the number of scalars. Addresses in a map stay. */
  std::map<std::pair<std::vector<bool>, uint32_t>, Layout> layouts_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_PIPELINES_H_
