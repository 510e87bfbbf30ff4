#include "grid.h"
#include "testing.h"

using mlc_llm_vulkan::FoldGrid;
using mlc_llm_vulkan::Grid;

namespace {

constexpr uint32_t kLimit = 65535;

TEST(grid_within_the_limit_is_kept) {
  const Grid grid = FoldGrid(65535, 7, 65535, kLimit, "k");
  CHECK_EQUAL(grid.x, 65535u);
  CHECK_EQUAL(grid.y, 7u);
  CHECK_EQUAL(grid.z, 65535u);
}

TEST(wide_grid_is_folded_into_z) {
  for (const int64_t x : {65536ll, 65537ll, 131070ll, 131071ll, 1000000007ll, 2147483647ll}) {
    const Grid grid = FoldGrid(x, 3, 1, kLimit, "k");
    CHECK(grid.x <= kLimit);
    CHECK(grid.z <= kLimit);
    CHECK_EQUAL(grid.y, 3u);
    const int64_t places = static_cast<int64_t>(grid.x) * grid.z;
    CHECK(places >= x);
    // Fewer surplus workgroups than one for each layer.
    CHECK(places - x < grid.z);
  }
}

TEST(empty_grid) {
  CHECK(FoldGrid(0, 1, 1, kLimit, "k").empty());
  CHECK(FoldGrid(1, 0, 1, kLimit, "k").empty());
  CHECK(FoldGrid(100000, 1, 0, kLimit, "k").empty());
}

TEST(grid_that_cannot_be_launched) {
  CHECK_ERROR(FoldGrid(-1, 1, 1, kLimit, "add"), "kernel add");
  CHECK_ERROR(FoldGrid(1, 65536, 1, kLimit, "add"), "65535 in a dimension");
  CHECK_ERROR(FoldGrid(1, 1, 65536, kLimit, "add"), "1 x 1 x 65536");
  CHECK_ERROR(FoldGrid(65536, 1, 2, kLimit, "add"), "65535 in a dimension");
  CHECK_ERROR(FoldGrid(int64_t{1} << 31, 1, 1, kLimit, "add"), "32-bit");
  CHECK_ERROR(FoldGrid(INT64_MAX, 1, 1, kLimit, "add"), "32-bit");
}

}  // namespace
