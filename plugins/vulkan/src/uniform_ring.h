/*!
 * \file uniform_ring.h
 * \brief Places for the scalar arguments of launches in one uniform buffer.
 */
#ifndef MLC_LLM_VULKAN_UNIFORM_RING_H_
#define MLC_LLM_VULKAN_UNIFORM_RING_H_

#include <cstdint>
#include <optional>

#include "alignment.h"

namespace mlc_llm_vulkan {

/*!
 * \brief Hands out ranges of a buffer in turn, batch after batch.
 *
 * A batch is the launches of one submission. Its places are next to each other, so that one write
 * uploads them. The queue runs submissions and writes in order, so places of earlier batches may be
 * taken again: the ring only has to keep the places of one batch apart.
 */
class UniformRing {
 public:
  /*!
   * \param capacity Bytes of the buffer.
   * \param alignment What dynamic offsets must be multiples of; a power of two.
   */
  UniformRing(uint32_t capacity, uint32_t alignment) : capacity_(capacity), alignment_(alignment) {}

  /*!
   * \brief Take a place in the current batch.
   * \param size Bytes; not over the capacity.
   * \return Its offset, or nothing when the batch must be ended first.
   */
  std::optional<uint32_t> Take(uint32_t size) {
    const uint64_t taken = AlignUp(size, alignment_);
    if (end_ + taken > capacity_) {
      if (!batch_empty() || taken > capacity_) return std::nullopt;
      begin_ = end_ = 0;
    }
    const uint64_t offset = end_;
    end_ += taken;
    return static_cast<uint32_t>(offset);
  }

  /*! \brief End the batch; the next one starts behind it. */
  void EndBatch() { begin_ = end_; }

  /*! \brief The places taken by the current batch. */
  ByteRange batch() const { return {begin_, end_}; }

  bool batch_empty() const { return begin_ == end_; }

 private:
  uint64_t capacity_;
  uint64_t alignment_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_UNIFORM_RING_H_
