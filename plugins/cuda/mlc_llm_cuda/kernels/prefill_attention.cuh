// Attention of many tokens over the pages of the KV cache, on tensor cores:
//
//     out = sum over visible keys j of softmax_j(score(q, k_j)) v_j
//
// A block takes 64 rows of one sequence: its tokens times the query heads that share a key head, so
// that a key is read once for all of them. Each of four warps has 16 rows. The block goes over the
// keys in tiles, whose first keys are multiples of a tile's length, and leaves out those of which no
// row sees a key. A tile that is hidden from a row changes nothing for it, so that what a row
// computes does not depend on the others.
//
// While the keys of a tile are multiplied, its values are copied to shared memory; while the values
// are, the next keys. A lane has, as the tensor cores do, two rows of its warp: g and g + 8, where
// g = lane / 4; it keeps their running maximum, and its part of the sum of their weights.

constexpr int kAttendWarps = 4, kAttendThreads = 32 * kAttendWarps, kAttendRows = 16 * kAttendWarps;
constexpr int kPageSlots = 16;
constexpr float kLowestScore = -1e30f;  // the maximum before any key; no product of halves is as low

// How a layer attends, and the length of a tile of keys. kWindow is 0 for no window.
template <int kKvHeads_, int kGroup_, int kKeySize_, int kValueSize_, int kQkvWidth_, int kWindow_,
          int kSink_, int kKeys_>
struct AttendingLayer {
  static constexpr int kKvHeads = kKvHeads_, kGroup = kGroup_, kQkvWidth = kQkvWidth_;
  static constexpr int kKeySize = kKeySize_, kValueSize = kValueSize_;
  static constexpr int kWindow = kWindow_, kSink = kSink_;
  static constexpr int kKeys = kKeys_, kPages = kKeys / kPageSlots;
  // A page has for each key head its keys (16, kKeySize), then its values (16, kValueSize).
  static constexpr int kHeadOfPage = kPageSlots * (kKeySize + kValueSize);

  static __device__ __forceinline__ bool sees(int position, int key) {
    return key <= position && (kWindow == 0 || key > position - kWindow || key < kSink);
  }

  // Whether all queries at the positions from first to last see all keys of a tile.
  static __device__ __forceinline__ bool sees_all(int first, int last, int tile) {
    return tile + kKeys - 1 <= first &&
           (kWindow == 0 || tile > last - kWindow || tile + kKeys <= kSink);
  }

  // The next tile that a query at or after the position first may see; tiles are their first keys.
  static __device__ __forceinline__ int tile_after(int tile, int first) {
    const int next = tile + kKeys;
    if (kWindow == 0 || next < kSink) return next;
    return max(next, max(first - kWindow + 1, 0) / kKeys * kKeys);
  }
};

// By how many columns rows are shifted against each other in shared memory.
template <int kColumns>
constexpr int kShiftsOf = kColumns % 8 == 0 ? 8 : kColumns % 4 == 0 ? 4 : 2;

// Where a tile in shared memory has a column, of 16 bytes, of a row: in bytes. Of eight neighbouring
// rows a column is in different banks, since they are read at once.
template <int kColumns>
__device__ __forceinline__ unsigned swizzled(unsigned row, unsigned column) {
  constexpr int kShifts = kShiftsOf<kColumns>;
  return 16 * (row * kColumns + (column ^ row / (8 / kShifts) % kShifts));
}

// The addresses of a lane's rows for `load_tiles`, of which every 16 rows and two columns have one.
template <int kColumns>
struct LaneRows {
  static constexpr int kShifts = kShiftsOf<kColumns>;
  unsigned first[kShifts / 2];  // all others are at constant distances

  __device__ __forceinline__ LaneRows(unsigned tile, unsigned row, unsigned column) {
#pragma unroll
    for (int i = 0; i < kShifts / 2; ++i) first[i] = tile + swizzled<kColumns>(row, 2 * i + column);
  }
  __device__ __forceinline__ unsigned at(int rows, int columns) const {
    return first[columns % (kShifts / 2)] +
           16 * (16 * rows * kColumns + columns / (kShifts / 2) * kShifts);
  }
};

// The pages of a tile's keys. Past the last key there is none: that of the last one is named again.
template <class Layer>
__device__ __forceinline__ void find_pages(unsigned (&pages)[Layer::kPages], const int* of_sequence,
                                           int tile, int last) {
#pragma unroll
  for (int i = 0; i < Layer::kPages; ++i)
    pages[i] = of_sequence[min(unsigned(tile) / kPageSlots + i, unsigned(last) / kPageSlots)];
}

// Begins to copy a tile of keys or values. The thread's pieces of 16 bytes begin at `own` in page 0.
// Values from `count` on become zeros: what is in their slots may be NaN, which a weight of 0 does
// not hide. Keys there are masked.
template <class Layer, int kSize, bool kZeros>
__device__ __forceinline__ void copy_tile(unsigned to, size_t own,
                                          const unsigned (&pages)[Layer::kPages], int count) {
  constexpr size_t kPage = 2 * Layer::kKvHeads * Layer::kHeadOfPage;
  constexpr int kColumns = kSize / 8, kPieces = kPageSlots * kColumns;
#pragma unroll
  for (int begin = 0; begin < kPieces; begin += kAttendThreads) {
    constexpr bool kWhole = kAttendThreads % kColumns == 0;  // then columns stay the same
    const unsigned piece = begin + threadIdx.x;
    const unsigned row =
        kWhole ? threadIdx.x / kColumns + begin / kColumns : piece / kColumns;
    const unsigned column = (kWhole ? threadIdx.x : piece) % kColumns;
    const unsigned place = to + swizzled<kColumns>(row, column);
    if (kPieces % kAttendThreads && piece >= kPieces) break;
#pragma unroll
    for (int i = 0; i < Layer::kPages; ++i)
      begin_copy(place + 16 * i * kPieces, own + pages[i] * kPage + 16 * begin,
                 !kZeros || int(row) + i * kPageSlots < count ? 16 : 0);
  }
}

// s = q k^T
template <class Layer>
__device__ __forceinline__ void multiply_keys(float (&s)[Layer::kKeys / 8][4],
                                              const unsigned (&q)[Layer::kKeySize / 16][4],
                                              unsigned keys, unsigned lane) {
  const LaneRows<Layer::kKeySize / 8> rows(keys, lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int step = 0; step < Layer::kKeySize / 16; ++step)
#pragma unroll
    for (int n = 0; n < Layer::kKeys / 16; ++n) {
      unsigned k[2][2];
      load_tiles(k, rows.at(n, step));
      mma_m16n8k16(s[2 * n], q[step], k[0]);
      mma_m16n8k16(s[2 * n + 1], q[step], k[1]);
    }
}

// o += p v, where weights are rounded to half
template <class Layer>
__device__ __forceinline__ void multiply_values(float (&o)[Layer::kValueSize / 8][4],
                                                const float (&p)[Layer::kKeys / 8][4],
                                                unsigned values, unsigned lane) {
  const LaneRows<Layer::kValueSize / 8> rows(values, lane % 16, lane / 16);
#pragma unroll
  for (int step = 0; step < Layer::kKeys / 16; ++step) {
    unsigned a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&of_tile)[4] = p[2 * step + i / 2];
      const half2 pair = __floats2half2_rn(of_tile[i % 2 * 2], of_tile[i % 2 * 2 + 1]);
      a[i] = *reinterpret_cast<const unsigned*>(&pair);
    }
#pragma unroll
    for (int n = 0; n < Layer::kValueSize / 16; ++n) {
      unsigned v[2][2];
      load_tiles_transposed(v, rows.at(step, n));
      mma_m16n8k16(o[2 * n], a, v[0]);
      mma_m16n8k16(o[2 * n + 1], a, v[1]);
    }
  }
}

// A step of the running softmax for row r of a lane's two: scores become weights
// 2^(factor (s - top)), and what was summed before is brought to the new maximum.
template <int kScores, int kOutputs>
__device__ __forceinline__ void soften(float (&s)[kScores][4], float (&o)[kOutputs][4], float& top,
                                       float& sum, float factor, int r) {
  float highest = top;
#pragma unroll
  for (int n = 0; n < kScores; ++n) highest = fmaxf(highest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
  highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
  highest = fmaxf(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
  const float correction = exp2_fast((top - highest) * factor), offset = -highest * factor;
  top = highest;
  sum *= correction;
#pragma unroll
  for (int n = 0; n < kScores; ++n)
#pragma unroll
    for (int i = 2 * r; i < 2 * r + 2; ++i) {
      s[n][i] = exp2_fast(fmaf(s[n][i], factor, offset));
      sum += s[n][i];
    }
#pragma unroll
  for (int n = 0; n < kOutputs; ++n)
#pragma unroll
    for (int i = 2 * r; i < 2 * r + 2; ++i) o[n][i] *= correction;
}

// Blocks: (key heads, at least the tiles of rows of all parts). factor: times it, a product of a
// query and a key is a score in base 2; with a soft cap, 2 log2(e) times what tanh is taken of. cap:
// the soft cap in base 2, 0 for none. sinks: logits of the query heads, null for none; sink_factor
// makes them what products are, or scores with a soft cap. memory: shared, for a tile of keys and
// one of values.
template <class Layer>
__device__ __forceinline__ void prefill_attention(
    const half* qkv, const int* positions, const int* sequences, const int* starts, int parts,
    const int* page_table, int table_width, const half* pages, const float* sinks, half* out,
    half* memory, float factor, float cap, float sink_factor) {
  constexpr int kKeySize = Layer::kKeySize, kValueSize = Layer::kValueSize, kKeys = Layer::kKeys;
  constexpr int kGroup = Layer::kGroup;
  const unsigned lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

  int part = 0, block = blockIdx.y, rows = 0;
  for (; part < parts; ++part) {
    rows = (starts[part + 1] - starts[part]) * kGroup;
    const int blocks = (rows + kAttendRows - 1) / kAttendRows;
    if (block < blocks) {
      block = blocks - 1 - block;  // the last rows, which see most keys, begin first
      break;
    }
    block -= blocks;
  }
  if (part == parts) return;
  const int start = starts[part], begin = block * kAttendRows, end = min(begin + kAttendRows, rows);
  const int first = positions[start + begin / kGroup];
  const int last = positions[start + (end - 1) / kGroup];

  const int* of_sequence = page_table + sequences[start] * table_width;
  const size_t own_keys =
      reinterpret_cast<size_t>(pages + blockIdx.x * Layer::kHeadOfPage + 8 * threadIdx.x);
  const size_t own_values = own_keys + 2 * kPageSlots * kKeySize;
  const unsigned keys = shared_address(memory), values = keys + 2 * kKeys * kKeySize;
  int tile = Layer::tile_after(-kKeys, first);
  unsigned places[Layer::kPages];
  find_pages<Layer>(places, of_sequence, tile, last);
  copy_tile<Layer, kKeySize, false>(keys, own_keys, places, kKeys);

  int row[2], position[2];
  unsigned q[kKeySize / 16][4];
  float top[2], sum[2], o[kValueSize / 8][4] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    row[r] = begin + threadIdx.x / 32 * 16 + g + 8 * r;
    const int of_part = min(row[r], rows - 1);  // past the end the last row, which is not written
    const int token = start + of_part / kGroup, head = blockIdx.x * kGroup + of_part % kGroup;
    position[r] = positions[token];
    top[r] = sinks ? fmaxf(sinks[head] * sink_factor, kLowestScore) : kLowestScore;
    sum[r] = sinks && t == 0 ? 1.0f : 0.0f;  // a sink is a key of weight 1 without a value
    const unsigned* query = reinterpret_cast<const unsigned*>(
        qkv + token * Layer::kQkvWidth + head * kKeySize);
#pragma unroll
    for (int i = 0; i < kKeySize / 8; ++i) q[i / 2][i % 2 * 2 + r] = query[4 * i + t];
  }

  while (true) {
    finish_copies();
    __syncthreads();  // The keys are there, and the values before are not needed any more.
    copy_tile<Layer, kValueSize, true>(values, own_values, places, last + 1 - tile);
    float s[kKeys / 8][4] = {};
    multiply_keys<Layer>(s, q, keys, lane);
    const int next = Layer::tile_after(tile, first);
    find_pages<Layer>(places, of_sequence, next, last);
    finish_copies();
    __syncthreads();  // The values are there, and the keys are not needed any more.
    if (next <= last) copy_tile<Layer, kKeySize, false>(keys, own_keys, places, kKeys);
    if (cap != 0.0f)
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)  // tanh x = 1 - 2 / (1 + e^2x), right where that is infinite
          s[n][i] = cap - __fdividef(2.0f * cap, 1.0f + exp2_fast(s[n][i] * factor));
    if (!Layer::sees_all(first, last, tile))
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (!Layer::sees(position[i / 2], tile + 8 * n + 2 * t + i % 2)) s[n][i] = -INFINITY;
    soften(s, o, top[0], sum[0], cap != 0.0f ? 1.0f : factor, 0);
    soften(s, o, top[1], sum[1], cap != 0.0f ? 1.0f : factor, 1);
    multiply_values<Layer>(o, s, values, lane);
    if (next > last) break;
    tile = next;
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const float share = __fdividef(1.0f, sum[r]);
    if (row[r] >= rows) continue;
    const int token = start + row[r] / kGroup, head = blockIdx.x * kGroup + row[r] % kGroup;
    half2* heads = reinterpret_cast<half2*>(out) +
                   (token * Layer::kKvHeads * kGroup + head) * (kValueSize / 2);
#pragma unroll
    for (int n = 0; n < kValueSize / 8; ++n)
      heads[4 * n + t] = __floats2half2_rn(o[n][2 * r] * share, o[n][2 * r + 1] * share);
  }
}
