#include "order.h"

#include <algorithm>
#include <numeric>

#include "settings.h"

namespace emulator {

Order::Order(uint64_t blocks, unsigned threads) : blocks_(blocks), threads_(threads) {
  std::string name = setting("ORDER", "forward");
  kind_ = name == "reverse" ? kReverse : name == "random" ? kRandom : kForward;
  std::iota(threads_.begin(), threads_.end(), 0);
  if (kind_ == kReverse) std::reverse(threads_.begin(), threads_.end());
  if (kind_ == kRandom && blocks > 2)  // steps of a number with no common divisor meet every block
    for (stride_ = blocks * 3 / 8 + 1; std::gcd(stride_, blocks) != 1;) ++stride_;
}

uint64_t Order::block(uint64_t turn) const {
  if (kind_ == kReverse) return blocks_ - 1 - turn;
  return turn * stride_ % blocks_;
}

void Order::next_block() {
  if (kind_ == kRandom) std::shuffle(threads_.begin(), threads_.end(), random_);
}

}  // namespace emulator
