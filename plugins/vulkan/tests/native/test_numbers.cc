#include <cstdint>

#include "alignment.h"
#include "testing.h"
#include "uniform_ring.h"

using mlc_llm_vulkan::AlignDown;
using mlc_llm_vulkan::AlignUp;
using mlc_llm_vulkan::ByteRange;
using mlc_llm_vulkan::CoveringWords;
using mlc_llm_vulkan::IsWordAligned;
using mlc_llm_vulkan::UniformRing;

namespace {

TEST(alignment_rounds) {
  CHECK_EQUAL(AlignUp(0, 16), 0u);
  CHECK_EQUAL(AlignUp(1, 16), 16u);
  CHECK_EQUAL(AlignUp(16, 16), 16u);
  CHECK_EQUAL(AlignDown(31, 16), 16u);
  CHECK_EQUAL(AlignUp((uint64_t{1} << 40) + 1, 4), (uint64_t{1} << 40) + 4);
  CHECK(IsWordAligned(8));
  CHECK(!IsWordAligned(6));
}

TEST(covering_words_hold_the_range) {
  for (uint64_t offset = 0; offset < 9; ++offset) {
    for (uint64_t size = 0; size < 9; ++size) {
      const ByteRange words = CoveringWords(offset, size);
      CHECK(IsWordAligned(words.begin) && IsWordAligned(words.end));
      CHECK(words.begin <= offset && offset - words.begin < 4);
      CHECK(words.end >= offset + size && words.end - (offset + size) < 4);
    }
  }
}

TEST(ring_places_are_aligned_and_apart) {
  UniformRing ring(1024, 256);
  CHECK_EQUAL(*ring.Take(4), 0u);
  CHECK_EQUAL(*ring.Take(256), 256u);
  CHECK_EQUAL(*ring.Take(257), 512u);
  CHECK(!ring.Take(4));
  CHECK_EQUAL(ring.batch().begin, 0u);
  CHECK_EQUAL(ring.batch().end, 1024u);
}

TEST(ring_goes_round_between_batches) {
  UniformRing ring(1024, 256);
  CHECK_EQUAL(*ring.Take(300), 0u);
  ring.EndBatch();
  CHECK(ring.batch_empty());
  CHECK_EQUAL(*ring.Take(256), 512u);
  CHECK_EQUAL(ring.batch().begin, 512u);
  // The rest does not hold it, and the batch has a place before it.
  CHECK(!ring.Take(512));
  ring.EndBatch();
  CHECK_EQUAL(*ring.Take(512), 0u);
  CHECK_EQUAL(ring.batch().size(), 512u);
}

TEST(ring_refuses_what_it_never_holds) {
  UniformRing ring(1024, 16);
  CHECK(!ring.Take(1025));
  CHECK(!ring.Take(UINT32_MAX));
  CHECK_EQUAL(*ring.Take(1024), 0u);
}

}  // namespace
