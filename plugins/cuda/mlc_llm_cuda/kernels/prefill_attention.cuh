// Attention of many tokens over the pages of the KV cache, on tensor cores:
//
//     out = sum over visible keys j of softmax_j(score(q, k_j)) v_j
//
// A block takes 64 rows of one sequence: its tokens times the query heads that share a key head, so
// that a key is read once for all of them. The block goes over the keys in tiles, whose first keys
// are multiples of a tile's length, and leaves out tiles that no row sees. A tile that is hidden
// from a row changes nothing for it, so that what a row computes does not depend on the others.
//
// While the keys of a tile are multiplied, its values are copied to shared memory; while the values
// are, the next keys. Each of four warps has 16 rows. A lane has, as tensor cores do, their rows g
// and g + 8, where g = lane / 4 and t = lane % 4, and of 8 keys or elements those at 2t and 2t + 1.
// It keeps the rows' running maximum, and its part of the sum of their weights.

constexpr int kAttendWarps = 4, kAttendThreads = 32 * kAttendWarps, kAttendRows = 16 * kAttendWarps;
constexpr float kLowestScore = -1e30f;  // the maximum before any key: below all products of halves

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
  static constexpr size_t kPageBytes = sizeof(half) * kKvHeads * kHeadOfPage;

  static __device__ __forceinline__ bool sees(int position, int key) {
    return key <= position && (kWindow == 0 || key > position - kWindow || key < kSink);
  }

  // Whether the queries at two positions, and those between, see all keys of a tile. Tiles are
  // given by their first keys.
  static __device__ __forceinline__ bool sees_all(int first, int last, int tile) {
    return tile + kKeys - 1 <= first &&
           (kWindow == 0 || tile > last - kWindow || tile + kKeys <= kSink);
  }

  // The next tile of which queries from the position `first` on may see a key.
  static __device__ __forceinline__ int tile_after(int tile, int first) {
    const int next = tile + kKeys;
    if (kWindow == 0 || next < kSink) return next;
    return max(next, max(first - kWindow + 1, 0) / kKeys * kKeys);
  }
};

// The rows of a block: those from `begin` to `end` of a part whose first token is `start`. A block
// has none if it is one more than the parts need.
template <class Layer>
struct BlockRows {
  int start = 0, begin = 0, end = 0;

  __device__ __forceinline__ BlockRows(const int* starts, int parts) {
    int block = blockIdx.y;
    for (int part = 0; part < parts; ++part) {
      const int rows = (starts[part + 1] - starts[part]) * Layer::kGroup;
      const int blocks = (rows + kAttendRows - 1) / kAttendRows;
      if (block < blocks) {
        start = starts[part];
        begin = (blocks - 1 - block) * kAttendRows;  // the last, which see most keys, go first
        end = min(begin + kAttendRows, rows);
        return;
      }
      block -= blocks;
    }
  }
  // The lane's row g + 8 r. Past the end, tokens and heads are those of the last row.
  __device__ __forceinline__ int own(int r) const {
    return begin + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * r;
  }
  __device__ __forceinline__ int token(int row) const {
    return start + min(row, end - 1) / Layer::kGroup;
  }
  __device__ __forceinline__ int head(int row) const {
    return blockIdx.x * Layer::kGroup + min(row, end - 1) % Layer::kGroup;
  }
};

// s = q k^T
template <class Layer>
__device__ __forceinline__ void multiply_keys(float (&s)[Layer::kKeys / 8][4],
                                              const unsigned (&q)[Layer::kKeySize / 16][4],
                                              unsigned keys, unsigned lane) {
  using Keys = PageTile<Layer::kKeySize>;
  const unsigned own = Keys::place(lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int step = 0; step < Layer::kKeySize / 16; ++step)
#pragma unroll
    for (int n = 0; n < Layer::kKeys / 16; ++n) {
      unsigned k[4];
      load_tiles(k, keys + Keys::further(own, n, step));
      mma_m16n8k16(s[2 * n], q[step], {k[0], k[1]});
      mma_m16n8k16(s[2 * n + 1], q[step], {k[2], k[3]});
    }
}

// o += p v, for which weights are rounded to half
template <class Layer>
__device__ __forceinline__ void multiply_values(float (&o)[Layer::kValueSize / 8][4],
                                                const float (&p)[Layer::kKeys / 8][4],
                                                unsigned values, unsigned lane) {
  using Values = PageTile<Layer::kValueSize>;
  const unsigned own = Values::place(lane % 16, lane / 16);
#pragma unroll
  for (int step = 0; step < Layer::kKeys / 16; ++step) {
    unsigned a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* of_row = &p[2 * step + i / 2][i % 2 * 2];
      const half2 pair = __floats2half2_rn(of_row[0], of_row[1]);
      a[i] = *reinterpret_cast<const unsigned*>(&pair);
    }
#pragma unroll
    for (int n = 0; n < Layer::kValueSize / 16; ++n) {
      unsigned v[4];
      load_tiles_transposed(v, values + Values::further(own, step, n));
      mma_m16n8k16(o[2 * n], a, {v[0], v[1]});
      mma_m16n8k16(o[2 * n + 1], a, {v[2], v[3]});
    }
  }
}

// Products become scores with a soft cap, cap tanh x = cap - 2 cap / (1 + e^2x): right even if
// the power is infinite. A product times factor is 2 log2(e) x.
template <int kScores>
__device__ __forceinline__ void cap_scores(float (&s)[kScores][4], float factor, float cap) {
#pragma unroll
  for (int n = 0; n < kScores; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      s[n][i] = cap - __fdividef(2.0f * cap, 1.0f + exp2_fast(s[n][i] * factor));
}

// Keys get no weight where a lane's queries do not see them; `key` is the lane's first one.
template <class Layer>
__device__ __forceinline__ void hide_scores(float (&s)[Layer::kKeys / 8][4],
                                            const int (&positions)[2], int key) {
#pragma unroll
  for (int n = 0; n < Layer::kKeys / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (!Layer::sees(positions[i / 2], key + 8 * n + i % 2)) s[n][i] = -INFINITY;
}

// A step of running softmax of a lane's row r: scores s become weights 2^(factor (s - top)), and
// what was summed before is brought to the new maximum.
template <int kScores, int kOutputs>
__device__ __forceinline__ void weigh(float (&s)[kScores][4], float (&o)[kOutputs][4], float& top,
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
  for (int n = 0; n < kScores; ++n) {
    float(&pair)[4] = s[n];
    pair[2 * r] = exp2_fast(fmaf(pair[2 * r], factor, offset));
    pair[2 * r + 1] = exp2_fast(fmaf(pair[2 * r + 1], factor, offset));
    sum += pair[2 * r] + pair[2 * r + 1];
  }
#pragma unroll
  for (int n = 0; n < kOutputs; ++n) {
    o[n][2 * r] *= correction;
    o[n][2 * r + 1] *= correction;
  }
}

// The queries of a lane's row r, as tensor cores take them.
template <int kSteps>
__device__ __forceinline__ void load_query(unsigned (&q)[kSteps][4], const half* row, unsigned t,
                                           int r) {
#pragma unroll
  for (int i = 0; i < 2 * kSteps; ++i)
    q[i / 2][i % 2 * 2 + r] = reinterpret_cast<const unsigned*>(row)[4 * i + t];
}

// Blocks: key heads times the blocks of rows, of which a few too many do nothing. factor: a product
// of a query and a key times it is a score in base 2; with a soft cap see `cap_scores`. cap: that
// cap in base 2, 0 for none. sinks: logits of the query heads, null for none; times sink_factor
// they are what `weigh` takes for scores. memory: shared, for a tile of keys and one of values.
template <class Layer>
__device__ __forceinline__ void prefill_attention(
    const half* qkv, const int* positions, const int* sequences, const int* starts, int parts,
    const int* page_table, int table_width, const half* pages, const float* sinks, half* out,
    half* memory, float factor, float cap, float sink_factor) {
  constexpr int kKeySize = Layer::kKeySize, kValueSize = Layer::kValueSize, kKeys = Layer::kKeys;
  constexpr int kThreads = kAttendThreads;
  constexpr size_t kPageBytes = Layer::kPageBytes;
  const unsigned lane = threadIdx.x % 32, t = lane % 4;
  const BlockRows<Layer> rows(starts, parts);
  if (rows.begin == rows.end) return;
  const int first = positions[rows.token(rows.begin)], last = positions[rows.token(rows.end)];

  const int* of_sequence = page_table + sequences[rows.start] * table_width;
  const half* of_head = pages + blockIdx.x * Layer::kHeadOfPage + 8 * threadIdx.x;
  const size_t own_keys = reinterpret_cast<size_t>(of_head);
  const size_t own_values = own_keys + sizeof(half) * kPageSlots * kKeySize;
  const unsigned keys = shared_address(memory), values = keys + sizeof(half) * kKeys * kKeySize;
  unsigned pages_of_tile[Layer::kPages];
  int tile = Layer::tile_after(-kKeys, first);
  find_pages(pages_of_tile, of_sequence, tile, last);
  copy_tile<kKeySize, kThreads, kPageBytes, false>(keys, own_keys, pages_of_tile, kKeys);

  int position[2];
  unsigned q[kKeySize / 16][4];
  float top[2], sum[2], o[kValueSize / 8][4] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int token = rows.token(rows.own(r)), head = rows.head(rows.own(r));
    position[r] = positions[token];
    load_query(q, qkv + token * Layer::kQkvWidth + head * kKeySize, t, r);
    top[r] = sinks ? fmaxf(sinks[head] * sink_factor, kLowestScore) : kLowestScore;
    sum[r] = sinks && t == 0 ? 1.0f : 0.0f;  // a sink is a key of weight 1 without a value
  }

  while (true) {
    finish_copies();
    __syncthreads();  // The keys are there, and the values before are not needed any more.
    // What is in slots past the last key may be NaN, which a weight of 0 does not hide.
    copy_tile<kValueSize, kThreads, kPageBytes, true>(values, own_values, pages_of_tile,
                                                      last + 1 - tile);
    const bool whole = __all_sync(0xffffffffu, Layer::sees_all(position[0], position[1], tile));
    float s[kKeys / 8][4] = {};
    multiply_keys<Layer>(s, q, keys, lane);
    const int next = Layer::tile_after(tile, first);
    finish_copies();
    __syncthreads();  // The values are there, and the keys are not needed any more.
    if (next <= last) {
      find_pages(pages_of_tile, of_sequence, next, last);
      copy_tile<kKeySize, kThreads, kPageBytes, false>(keys, own_keys, pages_of_tile, kKeys);
    }
    if (cap != 0.0f) cap_scores(s, factor, cap);
    if (!whole) hide_scores<Layer>(s, position, tile + 2 * t);
#pragma unroll
    for (int r = 0; r < 2; ++r) weigh(s, o, top[r], sum[r], cap != 0.0f ? 1.0f : factor, r);
    multiply_values<Layer>(o, s, values, lane);
    if (next > last) break;
    tile = next;
  }

  const BlockRows<Layer> found(starts, parts);  // again: registers are short in the loop
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
    sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
    const float share = __fdividef(1.0f, sum[r]);
    const int row = found.own(r);
    if (row >= found.end) continue;
    const int heads = found.token(row) * (Layer::kKvHeads * Layer::kGroup) + found.head(row);
    half2* of_row = reinterpret_cast<half2*>(out + heads * kValueSize);
#pragma unroll
    for (int n = 0; n < kValueSize / 8; ++n)
      of_row[4 * n + t] = __floats2half2_rn(o[n][2 * r] * share, o[n][2 * r + 1] * share);
  }
}
