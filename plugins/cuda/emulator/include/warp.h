// Barriers, and what the lanes of a warp do together. `line` is where the text calls them.
#pragma once

inline void __syncthreads(int line = __builtin_LINE()) { gpu_barrier(line); }

inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  gpu_exchange("", 1, mask, line);
}

// Order in memory is that of the threads, which take turns.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

inline unsigned __activemask() { return ~0u; }

// Reads what lanes have passed, which is no memory of the kernel's.
#define GPU_READS_EXCHANGE __attribute__((no_sanitize("thread")))

// The value of another lane.
template <class T>
GPU_READS_EXCHANGE T gpu_lane_value(T value, unsigned lane, unsigned mask, int line) {
  static_assert(sizeof(T) <= kLaneBytes);
  T result;
  const unsigned char* values = gpu_exchange(&value, sizeof value, mask, line);
  if (!(mask >> lane & 1)) gpu_fail("a lane asks for the value of one that is not in the mask");
  memcpy(&result, values + lane * kLaneBytes, sizeof result);
  return result;
}

// The first lane of the part of the warp, `width` lanes wide, that this lane is in.
inline unsigned gpu_first_of(int width) { return gpu_lane() & ~(width - 1u); }

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, int line = __builtin_LINE()) {
  return gpu_lane_value(value, gpu_first_of(width) + (from & (width - 1)), mask, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, int line = __builtin_LINE()) {
  unsigned lane = gpu_lane() ^ bits;
  if (lane >= gpu_first_of(width) + width) lane = gpu_lane();
  return gpu_lane_value(value, lane, mask, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   int line = __builtin_LINE()) {
  unsigned lane = gpu_lane() + by;
  if (lane >= gpu_first_of(width) + width) lane = gpu_lane();
  return gpu_lane_value(value, lane, mask, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  unsigned lane = gpu_lane() - by;
  if (gpu_lane() < gpu_first_of(width) + by) lane = gpu_lane();
  return gpu_lane_value(value, lane, mask, line);
}

GPU_READS_EXCHANGE inline unsigned __ballot_sync(unsigned mask, int predicate,
                                                 int line = __builtin_LINE()) {
  char vote = predicate != 0;
  const unsigned char* votes = gpu_exchange(&vote, 1, mask, line);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < kWarpSize; ++lane)
    if (mask >> lane & 1 && votes[lane * kLaneBytes]) ballot |= 1u << lane;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, line) == mask;
}

template <class T, class Combine>
GPU_READS_EXCHANGE T gpu_reduce(unsigned mask, T value, int line, Combine combine) {
  const unsigned char* values = gpu_exchange(&value, sizeof value, mask, line);
  bool first = true;
  T result{};
  for (unsigned lane = 0; lane < kWarpSize; ++lane) {
    if (!(mask >> lane & 1)) continue;
    T of_lane;
    memcpy(&of_lane, values + lane * kLaneBytes, sizeof of_lane);
    result = first ? of_lane : combine(result, of_lane);
    first = false;
  }
  return result;
}
template <class T>
T __reduce_add_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return gpu_reduce(mask, value, line, [](T a, T b) { return a + b; });
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return gpu_reduce(mask, value, line, [](T a, T b) { return std::max(a, b); });
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return gpu_reduce(mask, value, line, [](T a, T b) { return std::min(a, b); });
}
