/*!
 * \file context.h
 * \brief Everything that belongs to one opened device, behind one lock.
 */
#ifndef MLC_LLM_VULKAN_CONTEXT_H_
#define MLC_LLM_VULKAN_CONTEXT_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "bind_group_cache.h"
#include "buffer.h"
#include "device.h"
#include "grid.h"
#include "pipelines.h"
#include "recorder.h"
#include "transfer.h"

namespace mlc_llm_vulkan {

/*! \brief The arguments of a launch. */
struct Launch {
  const KernelSource* kernel = nullptr;
  const Pipeline* pipeline = nullptr;
  std::vector<const Buffer*> buffers; /*!< In the order of their bindings. */
  std::vector<uint32_t> uniforms;     /*!< The kernel's uniform struct. */
  Grid grid;
};

/*!
 * \brief A device with its recorder, transfers and caches. All methods may be called from any
 * thread; what one thread does is done in its order.
 */
class Context {
 public:
  /*!
   * \brief The context of a device, which is opened when it is first asked for.
   * \param index The adapter's place in Adapters().
   * \throws Error There is no such adapter, or it cannot be opened.
   */
  static Context& Get(int index);

  /*! \brief The context of a device that was opened before, or null. */
  static Context* Find(int index);

  explicit Context(int index);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Device& device() const { return device_; }
  PipelineCompiler& compiler() { return compiler_; }

  Buffer* Allocate(uint64_t size);
  /*! \brief Free a buffer. Never throws. */
  void Free(Buffer* buffer) noexcept;

  void Upload(const void* from, const Buffer& to, uint64_t offset, uint64_t size);
  void Download(const Buffer& from, uint64_t offset, void* to, uint64_t size);
  void Copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset,
            uint64_t size);

  /*! \brief Record a launch. */
  void Run(const Launch& launch);

  /*! \brief Wait until all that was recorded is done. */
  void Synchronize();

  /*! \brief Give the device up, as a loss does: every later call throws. See Device::Destroy. */
  void Destroy(bool in_submission);

  /*! \brief Counts of what was done, as a JSON object. */
  std::string StatsJson();

 private:
  WGPUBindGroup BindGroupFor(const Launch& launch);
  WGPUBindGroup CreateBindGroup(const Launch& launch);

  std::mutex mutex_;
  Device device_;
  PipelineCompiler compiler_;
  Recorder recorder_;
  Transfer transfer_;
  BindGroupCache<WGPUBindGroup> bind_groups_;
  BindGroupKey key_; /*!< Kept, so that looking a bind group up allocates nothing. */
  uint64_t bind_groups_made_ = 0;
  uint64_t buffers_live_ = 0;
  uint64_t bytes_live_ = 0;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_CONTEXT_H_
