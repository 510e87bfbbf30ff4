// Attention of rows that are tokens by themselves, split over the keys, on tensor cores.
//
// The pages that a row sees are shared out among up to kSplits splits, by the row's position alone.
// decode_split makes an unnormalised output of each split, and decode_join adds them up. Each warp
// of a block takes a page (16 keys) at a time, for all heads that share the keys:
//
//   scores (16 heads, 16 keys) = Q K^T      weights = 2^(score - base)      out += V^T weights^T
//
// In which order the tensor cores meet elements and keys is free as long as both factors agree. So
// a lane copies 16 bytes of a key or a value as they are stored, to shared memory that is its own,
// and what it reads back are its factors. While a warp computes with a part of a page, the next
// one is on its way, and so is the first of the next page.
//
// `base` is the largest score so far, less kHeadroom: a weight is at most 2^kHeadroom. It is two
// halves, which have 22 bits of it, or are exact to 2^-39 of the largest weight. Products of halves
// are exact, and sums are float.
//
// With g = lane / 4 and t = lane % 4, a lane has scores of head g (and g + 8) and of the keys 2t,
// 2t + 1, 2t + 8, 2t + 9, and outputs of the heads 2t and 2t + 1 (and + 8).

constexpr int kPageKeys = 16, kDecodeWarps = 8, kHeadroom = 14;
constexpr int kKeyChunk = 32, kValueChunk = 64;  // elements that the lanes read at once
constexpr int kPart = 128;                       // elements of a page that are read together
constexpr int kPartialRow = kValueChunk + 4;     // the 4 spread lanes over the banks
constexpr float kNoScore = -1e38f, kHiddenScore = -3.4e38f, kLog2e = 1.44269504f;

// A layer, of whose kGroup heads kTile (8 or 16) share what is read. kWindow is 0 for none.
template <int kHeadsOf, int kKvHeadsOf, int kTileOf, int kKeySizeOf, int kValueSizeOf,
          int kWindowOf, int kSinkOf, int kSplitsOf>
struct DecodeLayer {
  static constexpr int kHeads = kHeadsOf, kKvHeads = kKvHeadsOf, kTile = kTileOf;
  static constexpr int kKeySize = kKeySizeOf, kValueSize = kValueSizeOf;
  static constexpr int kWindow = kWindowOf, kSink = kSinkOf, kSplits = kSplitsOf;
  static constexpr int kGroup = kHeads / kKvHeads, kTiles = (kGroup + kTile - 1) / kTile;
  static constexpr int kEights = kTile / 8;
  static constexpr int kKeyChunks = (kKeySize + kKeyChunk - 1) / kKeyChunk;
  static constexpr int kValueChunks = (kValueSize + kValueChunk - 1) / kValueChunk;
  static constexpr int kKeyParts = (kKeySize + kPart - 1) / kPart;
  static constexpr int kParts = kKeyParts + (kValueSize + kPart - 1) / kPart;
  // Of a part, 16 bytes of each lane.
  static constexpr int kMostPieces = 2 * (kKeyChunks > 2 * kValueChunks ? kKeyChunks : 2 * kValueChunks);
  static constexpr int kPieces = kMostPieces < 8 ? kMostPieces : 8;
  static constexpr int kRecord = 2 + kValueSize;  // floats: base, sum, outputs
};

// The pages that a row sees, those of sinks first, and their splits.
template <class Layer>
struct DecodePages {
  static constexpr int kSinks = Layer::kWindow ? Layer::kSink : 0;
  static constexpr int kSinkPages = (kSinks + kPageKeys - 1) / kPageKeys;
  int position, skipped, count, share, splits;

  __device__ __forceinline__ explicit DecodePages(int at) : position(at) {
    const int first = Layer::kWindow ? max(at - Layer::kWindow + 1, 0) / kPageKeys : 0;
    skipped = max(first - kSinkPages, 0);
    count = at / kPageKeys + 1 - skipped;
    share = max(kDecodeWarps, (count + Layer::kSplits - 1) / Layer::kSplits);
    splits = (count + share - 1) / share;
  }
  __device__ __forceinline__ int page(int i) const { return i < kSinkPages ? i : i + skipped; }
  __device__ __forceinline__ bool sees(int key) const {
    if (!Layer::kWindow) return key <= position;
    return key <= position && (key > position - Layer::kWindow || key < kSinks);
  }
};

// Copies the pages first, first + kDecodeWarps, ... below `end` of those that a row sees to a warp's
// shared memory, in parts of up to kPart elements: those of the keys, then those of the values. Two
// parts are under way at a time.
template <class Layer>
struct DecodeReader {
  const DecodePages<Layer>& seen;
  const int* table;   // of the row's sequence
  const half* pages;  // from the key head's on
  uint4* memory;      // (2, kPieces, 32 lanes), at this lane's
  int place, end, number, stage = 0;
  const half *keys[2], *values[4];  // this lane's first elements in the page

  __device__ __forceinline__ DecodeReader(const DecodePages<Layer>& seen, const int* table,
                                          const half* pages, uint4* memory, int first, int end)
      : seen(seen), table(table), pages(pages), memory(memory), place(first - kDecodeWarps), end(end) {
    number = table[seen.page(first)];
    next_page();
    begin(0);
    begin(1);
  }

  // The part that was begun first, which is there now.
  __device__ __forceinline__ const uint4* part() const {
    wait_for_copies<1>();
    return memory + stage * (Layer::kPieces * 32);
  }

  // Begins to copy part `i` of the page to where the part that was there is no longer needed.
  __device__ __forceinline__ void begin(int i) {
    uint4* to = memory + stage * (Layer::kPieces * 32);
    if (place < end && i < Layer::kKeyParts)
      copy<Layer::kKeySize>(keys, i * kPart, threadIdx.x % 4, to);
    else if (place < end)
      copy<Layer::kValueSize>(values, (i - Layer::kKeyParts) * kPart, threadIdx.x % 32 / 4, to);
    end_group_of_copies();
    stage ^= 1;
  }

  __device__ __forceinline__ void next_page() {
    constexpr int kKeySize = Layer::kKeySize, kValueSize = Layer::kValueSize;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    place += kDecodeWarps;
    if (place >= end) return;
    const int first = seen.page(place) * kPageKeys;
    // What the row does not see may be NaN, and is not read: a key that it sees stands in.
    const int last = min(first + kPageKeys - 1, seen.position) - first;
    const int other = seen.sees(first + last) ? last : 0;
    const half* page = pages + size_t(number) * (Layer::kKvHeads * kPageKeys * (kKeySize + kValueSize));
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int slot = g + 8 * n;
      keys[n] = page + (seen.sees(first + slot) ? slot : other) * kKeySize + t * 8;
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int slot = 2 * t + n % 2 + n / 2 * 8;
      values[n] = page + kPageKeys * kKeySize +
                  (seen.sees(first + slot) ? slot : other) * kValueSize + g * 8;
    }
    if (place + kDecodeWarps < end) number = table[seen.page(place + kDecodeWarps)];
  }

  // Of each chunk a lane has the 8 elements of `lane_place`, and zeros beyond the last element.
  template <int kSize, int kSlots>
  __device__ __forceinline__ static void copy(const half* const (&slots)[kSlots], int first,
                                              int lane_place, uint4* to) {
    constexpr int kChunk = kPart * kSlots / 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int chunk = first + i / kSlots * kChunk;
      if (chunk >= kSize) continue;
      const bool there = chunk + kChunk <= kSize || chunk + lane_place * 8 < kSize;
      begin_copy(to + i * 32, slots[i % kSlots] + chunk, there ? 16 : 0);
    }
  }
};

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
template <class Layer>
struct DecodeState {
  static constexpr int kEights = Layer::kEights, kTiles = Layer::kValueChunks * 4;
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
  __device__ __forceinline__ void add(const uint4* pieces, int first,
                                      const unsigned (&high)[kEights][2],
                                      const unsigned (&low)[kEights][2]) {
#pragma unroll
    for (int chunk = 0; chunk < 2; ++chunk) {
      if (first + chunk * kValueChunk >= Layer::kValueSize) continue;
      unsigned x[4][4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const uint4 piece = pieces[(chunk * 4 + n) * 32];
        x[n][0] = piece.x, x[n][1] = piece.y, x[n][2] = piece.z, x[n][3] = piece.w;
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // two elements: row g of a tile, and row g + 8
        const unsigned a[4] = {__byte_perm(x[0][i], x[1][i], 0x5410),
                               __byte_perm(x[0][i], x[1][i], 0x7632),
                               __byte_perm(x[2][i], x[3][i], 0x5410),
                               __byte_perm(x[2][i], x[3][i], 0x7632)};
        float(&tile)[kEights][4] = out[first / 16 + chunk * 4 + i];
#pragma unroll
        for (int u = 0; u < kEights; ++u) {
          mma_m16n8k16(tile[u], a, high[u]);
          mma_m16n8k16(tile[u], a, low[u]);
        }
      }
    }
  }
};

// The queries of up to 16 heads as the left factors of the products, into shared memory.
template <class Layer>
__device__ __forceinline__ void decode_queries(const half* q, int heads, uint4* queries) {
  constexpr int kSize = Layer::kKeySize;
  for (unsigned i = threadIdx.x; i < Layer::kKeyChunks * 64; i += kDecodeWarps * 32) {
    const int g = i % 32 / 4, first = i / 64 * kKeyChunk + i % 4 * 8 + i / 32 % 2 * 4;
    uint2 upper = make_uint2(0, 0), lower = upper;
    if (g < heads && first < kSize) upper = *reinterpret_cast<const uint2*>(q + g * kSize + first);
    if (g + 8 < heads && first < kSize)
      lower = *reinterpret_cast<const uint2*>(q + (g + 8) * kSize + first);
    queries[i] = make_uint4(upper.x, lower.x, upper.y, lower.y);
  }
}

// Adds the products with a part of the keys g and g + 8 to the scores.
template <class Layer>
__device__ __forceinline__ void decode_multiply(const uint4* pieces, int first,
                                                const uint4* queries, float (&score)[2][4]) {
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    if (first + chunk * kKeyChunk >= Layer::kKeySize) continue;
    const uint4 key[2] = {pieces[chunk * 64], pieces[chunk * 64 + 32]};
#pragma unroll
    for (int half_chunk = 0; half_chunk < 2; ++half_chunk) {
      const uint4 q = queries[(first / 16 + chunk * 2 + half_chunk) * 32];
      const unsigned a[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const unsigned b[2] = {half_chunk ? key[n].z : key[n].x, half_chunk ? key[n].w : key[n].y};
        mma_m16n8k16(score[n], a, b);
      }
    }
  }
}

// Adds up what the warps found, and writes the record of each head: base, sum, outputs.
// bases: (8 warps, 16), twice. partial: (8 warps, 8, kPartialRow); other warps may still use it.
template <class Layer>
__device__ __forceinline__ void decode_merge(DecodeState<Layer>& state, int heads, float* records,
                                             float* bases, float* partial) {
  constexpr int kEights = Layer::kEights, kValueSize = Layer::kValueSize;
  constexpr size_t kStride = Layer::kSplits * Layer::kRecord;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float* sums = bases + kDecodeWarps * 16;
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
    *reinterpret_cast<float2*>(records + head * kStride) = make_float2(top, sum);
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
        records[(8 * u + head) * kStride + 2 + chunk + element] = sum;
      }
      __syncthreads();
    }
  }
}

// The blocks of a row and up to kTile of the heads of a key head are gridDim.y, which share the
// splits. records (rows, kHeads, kSplits, kRecord). scale, cap: see decode_score.
// memory: queries (kKeyChunks, 2, 32) and the warps' stages (8, 2, kPieces, 32), 16 bytes each, and
// 1024 bytes.
template <class Layer>
__device__ __forceinline__ void decode_split(const half* qkv, int width, const int* positions,
                                             const int* sequences, const int* page_table,
                                             int table_width, const half* pages, float* records,
                                             float scale, float cap, unsigned char* memory) {
  constexpr int kKeyParts = Layer::kKeyParts, kParts = Layer::kParts, kTile = Layer::kTile;
  const int tile = blockIdx.x % Layer::kTiles, kv_head = blockIdx.x / Layer::kTiles % Layer::kKvHeads;
  const int row = blockIdx.x / (Layer::kTiles * Layer::kKvHeads);
  const DecodePages<Layer> seen(positions[row]);
  if (blockIdx.y >= seen.splits) return;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = lane % 4;
  const int head = kv_head * Layer::kGroup + tile * kTile;
  const int heads = min(kTile, Layer::kGroup - tile * kTile);
  const int* table = page_table + size_t(sequences[row]) * table_width;
  pages += kv_head * (kPageKeys * (Layer::kKeySize + Layer::kValueSize));
  uint4* queries = reinterpret_cast<uint4*>(memory);
  uint4* stages = queries + Layer::kKeyChunks * 64;
  uint4* own_stages = stages + warp * (2 * Layer::kPieces * 32) + lane;
  float* bases = reinterpret_cast<float*>(stages + kDecodeWarps * 2 * Layer::kPieces * 32);
  decode_queries<Layer>(qkv + size_t(row) * width + head * Layer::kKeySize, heads, queries);
  __syncthreads();

  for (int split = blockIdx.y; split < seen.splits; split += gridDim.y) {
    const int end = min((split + 1) * seen.share, seen.count);
    int page = split * seen.share + warp;
    DecodeReader<Layer> reader(seen, table, pages, own_stages, page, end);
    DecodeState<Layer> state;
#pragma unroll 1
    for (; page < end; page += kDecodeWarps) {
      float score[2][4] = {};
      unsigned high[Layer::kEights][2], low[Layer::kEights][2];
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const uint4* pieces = reader.part();
        if (part < kKeyParts)
          decode_multiply<Layer>(pieces, part * kPart, queries + lane, score);
        else
          state.add(pieces, (part - kKeyParts) * kPart, high, low);
        if (part == kParts - 2) reader.next_page();
        reader.begin((part + 2) % kParts);
        if (part != kKeyParts - 1) continue;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const int key = seen.page(page) * kPageKeys + i / 4 * 8 + 2 * t + i % 2;
          float& of_key = score[i / 4][i % 4];
          of_key = seen.sees(key) ? decode_score(of_key, scale, cap) : kHiddenScore;
        }
        state.weigh(score, t, high, low);
      }
    }
    float* record = records + ((size_t(row) * Layer::kHeads + head) * Layer::kSplits + split) * Layer::kRecord;
    decode_merge(state, heads, record, bases, reinterpret_cast<float*>(stages));
  }
}

// A block for each row and head, and a thread for two elements. sinks: null for none.
template <class Layer>
__device__ __forceinline__ void decode_join(const float* records, const int* positions,
                                            const float* sinks, half* out) {
  constexpr int kSplits = Layer::kSplits, kValueSize = Layer::kValueSize;
  constexpr int kPerLane = (kSplits + 31) / 32, kTogether = 16;
  const int row = blockIdx.x / Layer::kHeads, head = blockIdx.x % Layer::kHeads;
  const int splits = DecodePages<Layer>(positions[row]).splits;
  const int lane = threadIdx.x % 32, pair = min(int(threadIdx.x), kValueSize / 2 - 1);
  // Of a record: base and sum, then pairs of outputs.
  auto record = [&](int split) {
    const float* at = records + (size_t(blockIdx.x) * kSplits + split) * Layer::kRecord;
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
