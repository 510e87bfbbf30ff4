// Attention of rows that are tokens by themselves, split over the keys, on tensor cores.
//
// The pages that a row sees are shared out among up to kSplits splits, by the row's position alone.
// decode_split makes an unnormalised output of each split, and decode_join adds them up. Each warp
// of a block takes a page (16 keys) at a time, from memory into registers, for all heads that share
// the keys:
//
//   scores (16 heads, 16 keys) = Q K^T      weights = 2^(score - base)      out += V^T weights^T
//
// What stands where in a fragment is free as long as both factors agree. So a lane reads 16 bytes
// of a key or a value as they are stored, and has what it multiplies. `base` is the largest score
// so far, less kHeadroom: a weight is at most 2^kHeadroom, and is two halves, 22 bits of it and
// more where it counts. Products of halves are exact, and sums are float.
//
// With g = lane / 4 and t = lane % 4, a lane has scores of head g (and g + 8) and the keys 2t,
// 2t + 1, 2t + 8, 2t + 9, and outputs of the heads 2t and 2t + 1 (and + 8).

constexpr int kPageKeys = 16, kDecodeWarps = 8, kHeadroom = 14;
constexpr int kKeyChunk = 32, kValueChunk = 64;  // elements that the lanes read at once
constexpr int kPart = 128;                       // elements that are read before any is used
constexpr int kPartialRow = kValueChunk + 4;     // the 4 spread lanes over the banks
constexpr float kNoScore = -1e38f, kHiddenScore = -3.4e38f, kLog2e = 1.44269504f;

// The pages that a query sees, those of sinks first, and their splits.
template <int kWindow, int kSink, int kSplits>
struct DecodePages {
  static constexpr int kSinkPages = kWindow ? (kSink + kPageKeys - 1) / kPageKeys : 0;
  int position, skipped, count, share, splits;

  __device__ __forceinline__ explicit DecodePages(int at) : position(at) {
    const int first = kWindow ? max(at - kWindow + 1, 0) / kPageKeys : 0;
    skipped = max(first - kSinkPages, 0);
    count = at / kPageKeys + 1 - skipped;
    share = max(kDecodeWarps, (count + kSplits - 1) / kSplits);
    splits = (count + share - 1) / share;
  }
  __device__ __forceinline__ int page(int i) const { return i < kSinkPages ? i : i + skipped; }
  __device__ __forceinline__ bool sees(int key) const {
    if (!kWindow) return key <= position;
    return key <= position && (key > position - kWindow || key < kSink);
  }
};

// Reads up to kPart elements of the keys in two slots, or of the values in four: of each chunk a
// lane has the 8 elements of `place`. What lies beyond the last element is zero.
template <int kSize, int kSlots>
__device__ __forceinline__ void decode_read(const half* heads, const int (&slots)[kSlots],
                                            int first, int place, uint4 (&pieces)[8]) {
  constexpr int kChunk = kPart * kSlots / 8;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int chunk = first + i / kSlots * kChunk;
    pieces[i] = make_uint4(0, 0, 0, 0);
    if (chunk >= kSize || (chunk + kChunk > kSize && chunk + place * 8 >= kSize)) continue;
    pieces[i] = load_once(reinterpret_cast<const uint4*>(heads + slots[i % kSlots] * kSize + chunk) +
                          place);
  }
}

// Two weights as halves: what they are rounded to, and what is lost by that.
__device__ __forceinline__ void decode_halves(float x, float y, unsigned& high, unsigned& low) {
  const half2 rounded = __floats2half2_rn(x, y);
  const float2 kept = __half22float2(rounded);
  const half2 rest = __floats2half2_rn(x - kept.x, y - kept.y);
  high = *reinterpret_cast<const unsigned*>(&rounded);
  low = *reinterpret_cast<const unsigned*>(&rest);
}

// A score in powers of 2 from the product of a query and a key, or what is taken the tanh of.
// tanh |x| = (1 - e^(-2 |x|)) / (1 + e^(-2 |x|))
__device__ __forceinline__ float decode_score(float product, float scale, float cap) {
  const float x = product * scale;
  if (cap == 0.0f) return x;
  const float power = exp2f(fabsf(x) * (-2.0f * kLog2e));
  return copysignf(__fdividef(1.0f - power, 1.0f + power), x) * (cap * kLog2e);
}

// What a warp knows of the heads g and g + 8, and of the outputs of the heads 2t and 2t + 1.
template <int kValueSize, int kEights>
struct DecodeState {
  static constexpr int kTiles = (kValueSize + kValueChunk - 1) / kValueChunk * 4;
  float base[kEights], sum[kEights];  // a lane sums the weights of its own keys
  float out[kTiles][kEights][4];      // (element, head) as the tensor cores have them

  __device__ __forceinline__ DecodeState() {
#pragma unroll
    for (int u = 0; u < kEights; ++u) base[u] = kNoScore, sum[u] = 0.0f;
#pragma unroll
    for (int i = 0; i < kTiles * kEights * 4; ++i) out[i / 4 / kEights][i / 4 % kEights][i % 4] = 0;
  }

  // Makes scores weights, of which `high` and `low` have two keys each, and rescales the sums.
  __device__ __forceinline__ void weigh(const float (&score)[2][4], int t, unsigned (&high)[kEights][2],
                                        unsigned (&low)[kEights][2]) {
#pragma unroll
    for (int u = 0; u < kEights; ++u) {
      const float (&a)[4] = score[0], (&b)[4] = score[1];
      float most = fmaxf(fmaxf(a[2 * u], a[2 * u + 1]), fmaxf(b[2 * u], b[2 * u + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float now = fmaxf(base[u], most - kHeadroom), correction = exp2f(base[u] - now);
      float weights[2][2];
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[i / 2][i % 2] = exp2f(score[i / 2][2 * u + i % 2] - now);
      base[u] = now;
      sum[u] = sum[u] * correction + ((weights[0][0] + weights[0][1]) + (weights[1][0] + weights[1][1]));
#pragma unroll
      for (int n = 0; n < 2; ++n) decode_halves(weights[n][0], weights[n][1], high[u][n], low[u][n]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float of_head = __shfl_sync(0xffffffffu, correction, (2 * t + j) * 4);
#pragma unroll
        for (int i = 0; i < kTiles; ++i) out[i][u][j] *= of_head, out[i][u][2 + j] *= of_head;
      }
    }
  }

  // Adds the weighted values of a part: pieces of the keys 2t, 2t + 1, 2t + 8, 2t + 9.
  __device__ __forceinline__ void add(const uint4 (&pieces)[8], int first,
                                      const unsigned (&high)[kEights][2],
                                      const unsigned (&low)[kEights][2]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {  // two elements of each lane: row g of a tile, and row g + 8
      const int tile = first / 16 + i, word = i % 4;
      if (tile >= kTiles) continue;
      const uint4* keys = pieces + i / 4 * 4;
      const unsigned x[4] = {(&keys[0].x)[word], (&keys[1].x)[word], (&keys[2].x)[word],
                             (&keys[3].x)[word]};
      const unsigned a[4] = {__byte_perm(x[0], x[1], 0x5410), __byte_perm(x[0], x[1], 0x7632),
                             __byte_perm(x[2], x[3], 0x5410), __byte_perm(x[2], x[3], 0x7632)};
#pragma unroll
      for (int u = 0; u < kEights; ++u) {
        mma_m16n8k16(out[tile][u], a, high[u]);
        mma_m16n8k16(out[tile][u], a, low[u]);
      }
    }
  }
};

// The queries of up to 16 heads as the left factors of the products, into shared memory.
template <int kSize>
__device__ __forceinline__ void decode_queries(const half* q, int heads, uint4* queries) {
  constexpr int kSteps = (kSize + kKeyChunk - 1) / kKeyChunk * 2;
  for (int i = threadIdx.x; i < kSteps * 32; i += kDecodeWarps * 32) {
    const int g = i % 32 / 4, first = i / 64 * kKeyChunk + i % 4 * 8 + i / 32 % 2 * 4;
    uint2 upper = make_uint2(0, 0), lower = upper;
    if (g < heads && first < kSize) upper = *reinterpret_cast<const uint2*>(q + g * kSize + first);
    if (g + 8 < heads && first < kSize)
      lower = *reinterpret_cast<const uint2*>(q + (g + 8) * kSize + first);
    queries[i] = make_uint4(upper.x, lower.x, upper.y, lower.y);
  }
}

// Adds the products of a part of the keys g and g + 8 to the scores.
template <int kSize>
__device__ __forceinline__ void decode_multiply(const uint4 (&pieces)[8], const uint4* queries,
                                                int first, int lane, float (&score)[2][4]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {  // 16 elements: half a chunk
    const int step = first / 16 + i;
    if (step / 2 * kKeyChunk >= kSize) continue;
    const uint4 q = queries[step * 32 + lane];
    const unsigned a[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const uint4& key = pieces[i / 2 * 2 + n];
      const unsigned b[2] = {i % 2 ? key.z : key.x, i % 2 ? key.w : key.y};
      mma_m16n8k16(score[n], a, b);
    }
  }
}

// Adds up what the warps found, and writes the record of each head: base, sum, outputs.
// shared: 8 warps x (32 + 8 x kPartialRow) floats.
template <int kValueSize, int kEights>
__device__ __forceinline__ void decode_merge(DecodeState<kValueSize, kEights>& state, int heads,
                                             float* records, size_t stride, float* shared) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float *bases = shared, *sums = bases + kDecodeWarps * 16, *partial = sums + kDecodeWarps * 16;
  auto top_of = [&](int head) {
    float top = bases[head];
#pragma unroll
    for (int w = 1; w < kDecodeWarps; ++w) top = fmaxf(top, bases[w * 16 + head]);
    return top;
  };
#pragma unroll
  for (int u = 0; u < kEights; ++u) {
    float sum = state.sum[u];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (t == 0) bases[warp * 16 + g + 8 * u] = state.base[u], sums[warp * 16 + g + 8 * u] = sum;
  }
  __syncthreads();
  if (threadIdx.x < heads) {
    const int head = threadIdx.x;
    const float top = top_of(head);
    float sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kDecodeWarps; ++w)
      sum += sums[w * 16 + head] * exp2f(bases[w * 16 + head] - top);
    *reinterpret_cast<float2*>(records + head * stride) = make_float2(top, sum);
  }
#pragma unroll
  for (int u = 0; u < kEights; ++u) {
    float factor[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int head = 8 * u + 2 * t + j;
      factor[j] = exp2f(bases[warp * 16 + head] - top_of(head));
    }
#pragma unroll
    for (int chunk = 0; chunk < kValueSize; chunk += kValueChunk) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float (&out)[4] = state.out[chunk / 16 + i][u];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float* at = partial + (warp * 8 + 2 * t + j) * kPartialRow + 8 * g + 2 * i;
          *reinterpret_cast<float2*>(at) = make_float2(out[j] * factor[j], out[2 + j] * factor[j]);
        }
      }
      __syncthreads();
      for (int i = threadIdx.x; i < 8 * kValueChunk; i += kDecodeWarps * 32) {
        const int head = i / kValueChunk, element = i % kValueChunk;
        if (8 * u + head >= heads || chunk + element >= kValueSize) continue;
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < kDecodeWarps; ++w)
          sum += partial[(w * 8 + head) * kPartialRow + element];
        records[(8 * u + head) * stride + 2 + chunk + element] = sum;
      }
      __syncthreads();
    }
  }
}

// The blocks of a row and up to kTile of the heads of a key head are gridDim.y, which share the
// splits. records (rows, query heads, kSplits, 2 + kValueSize). scale, cap: see decode_score.
// shared: the queries, 16 bytes for each lane and 16 elements, then what decode_merge takes.
template <int kHeads, int kKvHeads, int kTile, int kKeySize, int kValueSize, int kWindow, int kSink,
          int kSplits>
__device__ __forceinline__ void decode_split(const half* qkv, int width, const int* positions,
                                             const int* sequences, const int* page_table,
                                             int table_width, const half* pages, float* records,
                                             float scale, float cap, float* shared) {
  constexpr int kGroup = kHeads / kKvHeads, kTiles = (kGroup + kTile - 1) / kTile;
  constexpr int kEights = kTile / 8, kHeadPage = kPageKeys * (kKeySize + kValueSize);
  constexpr int kKeyParts = (kKeySize + kPart - 1) / kPart;
  constexpr int kValueParts = (kValueSize + kPart - 1) / kPart, kParts = kKeyParts + kValueParts;
  constexpr size_t kRecord = 2 + kValueSize;
  const int tile = blockIdx.x % kTiles, kv_head = blockIdx.x / kTiles % kKvHeads;
  const int row = blockIdx.x / (kTiles * kKvHeads);
  const DecodePages<kWindow, kSink, kSplits> seen(positions[row]);
  if (blockIdx.y >= seen.splits) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int head = kv_head * kGroup + tile * kTile, heads = min(kTile, kGroup - tile * kTile);
  const int* table = page_table + size_t(sequences[row]) * table_width;
  uint4* queries = reinterpret_cast<uint4*>(shared);
  float* merging = shared + (kKeySize + kKeyChunk - 1) / kKeyChunk * 256;
  decode_queries<kKeySize>(qkv + size_t(row) * width + head * kKeySize, heads, queries);
  __syncthreads();

  for (int split = blockIdx.y; split < seen.splits; split += gridDim.y) {
    DecodeState<kValueSize, kEights> state;
    const int end = min((split + 1) * seen.share, seen.count);
#pragma unroll 1
    for (int i = split * seen.share + warp; i < end; i += kDecodeWarps) {
      const int first = seen.page(i) * kPageKeys;
      const half* keys = pages + (size_t(table[first / kPageKeys]) * kKvHeads + kv_head) * kHeadPage;
      const half* values = keys + kPageKeys * kKeySize;
      // What the row does not see is not read, since it may be NaN: a key that it sees stands in.
      const int last = min(first + kPageKeys - 1, seen.position) - first;
      const int other = seen.sees(first + last) ? last : 0;
      int key_slots[2], value_slots[4];
      bool hidden[4];
#pragma unroll
      for (int n = 0; n < 2; ++n)
        key_slots[n] = seen.sees(first + g + 8 * n) ? g + 8 * n : other;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int slot = 2 * t + n % 2 + n / 2 * 8;
        hidden[n] = !seen.sees(first + slot);
        value_slots[n] = hidden[n] ? other : slot;
      }
      uint4 parts[2][8];
      auto read = [&](int part) {
        if (part < kKeyParts)
          decode_read<kKeySize>(keys, key_slots, part * kPart, t, parts[part % 2]);
        else if (part < kParts)
          decode_read<kValueSize>(values, value_slots, (part - kKeyParts) * kPart, g, parts[part % 2]);
      };
      float score[2][4] = {};
      unsigned high[kEights][2], low[kEights][2];
      read(0);
      read(1);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        if (part < kKeyParts)
          decode_multiply<kKeySize>(parts[part % 2], queries, part * kPart, lane, score);
        if (part >= kKeyParts)
          state.add(parts[part % 2], (part - kKeyParts) * kPart, high, low);
        read(part + 2);
        if (part != kKeyParts - 1) continue;
#pragma unroll
        for (int n = 0; n < 8; ++n) {
          float& of_key = score[n / 4][n % 4];
          of_key = hidden[n / 4 * 2 + n % 2] ? kHiddenScore : decode_score(of_key, scale, cap);
        }
        state.weigh(score, t, high, low);
      }
    }
    float* record = records + ((size_t(row) * kHeads + head) * kSplits + split) * kRecord;
    decode_merge(state, heads, record, kSplits * kRecord, merging);
  }
}

// A block for each row and head, and a thread for two elements. sinks: null for none.
template <int kHeads, int kValueSize, int kWindow, int kSink, int kSplits>
__device__ __forceinline__ void decode_join(const float* records, const int* positions,
                                            const float* sinks, half* out) {
  constexpr int kPerLane = (kSplits + 31) / 32, kTogether = 16;
  const int row = blockIdx.x / kHeads, head = blockIdx.x % kHeads;
  const int splits = DecodePages<kWindow, kSink, kSplits>(positions[row]).splits;
  const int lane = threadIdx.x % 32, pair = min(int(threadIdx.x), kValueSize / 2 - 1);
  // Of a record: base and sum, then pairs of outputs.
  auto record = [&](int split) {
    const float* at = records + (size_t(blockIdx.x) * kSplits + split) * (2 + kValueSize);
    return reinterpret_cast<const float2*>(at);
  };

  float base[kPerLane], sum[kPerLane];
  const float sink = sinks ? sinks[head] * kLog2e : kNoScore;
  float top = sink, total = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const bool there = i * 32 + lane < splits;
    const float2 found = there ? *record(i * 32 + lane) : make_float2(kNoScore, 0.0f);
    base[i] = found.x, sum[i] = found.y;
    top = fmaxf(top, base[i]);
  }
#pragma unroll
  for (int mask = 16; mask; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) base[i] = exp2f(base[i] - top), total += sum[i] * base[i];
#pragma unroll
  for (int mask = 16; mask; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
  total += exp2f(sink - top);

  float2 value = make_float2(0.0f, 0.0f);
#pragma unroll
  for (int first = 0; first < kSplits; first += kTogether) {
    if (first >= splits) break;
    float2 found[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
      found[i] = first + i < splits ? record(first + i)[1 + pair] : make_float2(0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (first + i >= kSplits) break;
      const float weight = __shfl_sync(0xffffffffu, base[(first + i) / 32], (first + i) % 32);
      value.x += weight * found[i].x, value.y += weight * found[i].y;
    }
  }
  if (threadIdx.x < kValueSize / 2)
    reinterpret_cast<half2*>(out + size_t(blockIdx.x) * kValueSize)[pair] =
        __floats2half2_rn(value.x / total, value.y / total);
}
