/*!
 * \file recorder.h
 * \brief Records dispatches and copies, and submits them in batches.
 */
#ifndef MLC_LLM_VULKAN_RECORDER_H_
#define MLC_LLM_VULKAN_RECORDER_H_

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "device.h"
#include "grid.h"
#include "uniform_ring.h"

namespace mlc_llm_vulkan {

/*! \brief How much was recorded, since the device was opened. */
struct RecorderStats {
  uint64_t launches = 0;
  uint64_t submits = 0;
};

/*!
 * \brief The command encoder of a device and the uniform buffer of its launches.
 *
 * A batch is submitted when it is full, so that the device works while the host records more. The
 * first batch after a pause is short, since the device has nothing to do; the following ones grow.
 * Not thread-safe.
 */
class Recorder {
 public:
  explicit Recorder(Device* device);
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  /*! \brief The buffer that every bind group holds, for the scalars of launches. */
  WGPUBuffer uniform_buffer() const { return uniform_buffer_; }

  /*!
   * \brief Keep the scalars of a launch until the batch is submitted.
   *
   * Submits the batch first when it has no room for them.
   *
   * \param words The uniform struct.
   * \return The dynamic offset at which the kernel finds them.
   */
  uint32_t KeepUniforms(const std::vector<uint32_t>& words);

  /*! \brief Record a launch. Submits the batch when it is full. */
  void Dispatch(WGPUComputePipeline pipeline, WGPUBindGroup group, uint32_t uniform_offset,
                const Grid& grid);

  /*! \brief Record a copy; all numbers are multiples of 4, and the buffers differ. */
  void Copy(WGPUBuffer from, uint64_t from_offset, WGPUBuffer to, uint64_t to_offset,
            uint64_t size);

  /*!
   * \brief Submit what was recorded, if anything.
   * \throws Error A recorded command is invalid (nothing of the batch runs), or the device is lost.
   */
  void Flush();

  /*! \brief Say that the device has become idle, so that the next batch will be short. */
  void NoteIdle();

  /*! \brief The number of the last submission; 0 when there is none. */
  WGPUSubmissionIndex last_submission() const { return last_submission_; }

  /*! \brief Submit without commands, so that the writes of the queue are carried out. */
  void SubmitWrites();

  bool empty() const { return encoder_ == nullptr; }
  const RecorderStats& stats() const { return stats_; }

 private:
  void BeginEncoder();
  void BeginPass();
  void EndPass();
  void UploadUniforms();
  WGPUCommandBuffer Finish();

  Device* device_;
  UniformRing ring_;
  WGPUBuffer uniform_buffer_;
  std::vector<uint8_t> uniforms_;
  WGPUCommandEncoder encoder_ = nullptr;
  WGPUComputePassEncoder pass_ = nullptr;
  WGPUSubmissionIndex last_submission_ = 0;
  uint32_t batched_launches_ = 0;
  uint32_t batch_limit_;
  RecorderStats stats_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_RECORDER_H_
