/*!
 * \file transfer.h
 * \brief Copies between the host and buffers, and between buffers.
 *
 * WebGPU copies whole words at offsets that are multiples of a word; other ranges are completed
 * with the words around them.
 */
#ifndef MLC_LLM_VULKAN_TRANSFER_H_
#define MLC_LLM_VULKAN_TRANSFER_H_

#include <cstdint>

#include "buffer.h"
#include "recorder.h"

namespace mlc_llm_vulkan {

/*! \brief How much was copied, in bytes. */
struct TransferStats {
  uint64_t uploaded_bytes = 0;
  uint64_t downloaded_bytes = 0;
};

/*! \brief Copies of one device, in order with the launches of its recorder. Not thread-safe. */
class Transfer {
 public:
  Transfer(Device* device, Recorder* recorder) : device_(device), recorder_(recorder) {}
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /*! \brief Copy from the host; the source may be changed when this returns. */
  void Upload(const void* from, const Buffer& to, uint64_t offset, uint64_t size);

  /*! \brief Copy to the host, after all that was recorded. */
  void Download(const Buffer& from, uint64_t offset, void* to, uint64_t size);

  /*! \brief Copy between buffers of this device, or within one. */
  void Copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset,
            uint64_t size);

  const TransferStats& stats() const { return stats_; }

 private:
  void WriteWords(const void* from, const Buffer& to, uint64_t offset, uint64_t size);
  void WritePartOfWord(const uint8_t* from, const Buffer& to, uint64_t offset, uint64_t size);
  void LimitUploads(uint64_t size);
  void DownloadChunk(const Buffer& from, uint64_t offset, uint8_t* to, uint64_t size);
  void ReadStaging(uint64_t mapped, uint64_t skipped, uint8_t* to, uint64_t size);
  void RequireStaging(uint64_t size);
  void CopyWithin(const Buffer& buffer, uint64_t from_offset, uint64_t to_offset, uint64_t size);

  Device* device_;
  Recorder* recorder_;
  WGPUBuffer staging_ = nullptr;
  uint64_t staging_size_ = 0;
  uint64_t unsubmitted_ = 0;
  WGPUSubmissionIndex previous_upload_ = 0;
  bool upload_in_flight_ = false;
  TransferStats stats_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_TRANSFER_H_
