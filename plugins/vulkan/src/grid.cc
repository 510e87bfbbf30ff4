#include "grid.h"

#include "errors.h"

namespace mlc_llm_vulkan {

Grid FoldGrid(int64_t x, int64_t y, int64_t z, uint32_t limit, const std::string& kernel) {
  const auto refuse = [&](const char* why) {
    throw Error(ErrorKind::kValue, Concat("The kernel ", kernel, " is launched on a grid of ", x,
                                          " x ", y, " x ", z, " workgroups: ", why));
  };
  if (x < 0 || y < 0 || z < 0) refuse("a dimension is negative.");
  if (x == 0 || y == 0 || z == 0) return Grid{0, 0, 0};
  const int64_t most = limit;
  if (y > most || z > most || (x > most && z > 1)) {
    refuse(Concat("this device takes ", limit, " in a dimension.").c_str());
  }
  if (x <= most) {
    return Grid{static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(z)};
  }
  const int64_t layers = (x - 1) / most + 1;
  if (layers > most || x > INT32_MAX) {
    refuse("that is more than 32-bit indices, or the device's limits, can number.");
  }
  // Even layers leave the fewest workgroups without work.
  const int64_t width = (x - 1) / layers + 1;
  return Grid{static_cast<uint32_t>(width), static_cast<uint32_t>(y),
              static_cast<uint32_t>(layers)};
}

}  // namespace mlc_llm_vulkan
