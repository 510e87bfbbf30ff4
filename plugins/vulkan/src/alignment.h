/*!
 * \file alignment.h
 * \brief Rounding of sizes and byte ranges; WebGPU copies and maps whole 4-byte words.
 */
#ifndef MLC_LLM_VULKAN_ALIGNMENT_H_
#define MLC_LLM_VULKAN_ALIGNMENT_H_

#include <cstdint>

namespace mlc_llm_vulkan {

/*! \brief What offsets and sizes of copies must be multiples of, in bytes. */
constexpr uint64_t kWordBytes = 4;

/*! \brief The largest multiple of a power of two that is not above the value. */
constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

/*! \brief The smallest multiple of a power of two that is not below the value. */
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return AlignDown(value + alignment - 1, alignment);
}

/*! \brief Whether a value is a whole number of words. */
constexpr bool IsWordAligned(uint64_t value) { return value % kWordBytes == 0; }

/*! \brief A range of bytes. */
struct ByteRange {
  uint64_t begin;
  uint64_t end;

  constexpr uint64_t size() const { return end - begin; }
};

/*! \brief The whole words that a range of bytes touches. */
constexpr ByteRange CoveringWords(uint64_t offset, uint64_t size) {
  return {AlignDown(offset, kWordBytes), AlignUp(offset + size, kWordBytes)};
}

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_ALIGNMENT_H_
