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

constexpr float kHiddenScore = -3.4e38f, kLog2e = 1.44269504f;

// A score in powers of 2 from the product of a query and a key, or what is taken the tanh of.
// tanh |x| = (1 - e^(-2 |x|)) / (1 + e^(-2 |x|))
__device__ __forceinline__ float decode_score(float product, float scale, float cap) {
  const float x = product * scale;
  if (cap == 0.0f) return x;
  const float power = exp2f(fabsf(x) * (-2.0f * kLog2e));
  return copysignf(__fdividef(1.0f - power, 1.0f + power), x) * (cap * kLog2e);
}

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

// The blocks of a row and up to kTile of the heads of a key head are gridDim.y, which share the
// splits. The launch has the rows from first_row on. records (rows of the launch, kHeads, kSplits,
// kRecord): base, sum, outputs. scale, cap: see decode_score.
// memory: queries (kKeyChunks, 2, 32) and the warps' stages (8, 2, kPieces, 32), 16 bytes each, and
// 1024 bytes.
template <class Layer>
__device__ __forceinline__ void decode_split(const half* qkv, int width, int first_row,
                                             const int* positions, const int* sequences,
                                             const int* page_table, int table_width,
                                             const half* pages, float* records, float scale,
                                             float cap, unsigned char* memory) {
  constexpr int kKeyParts = Layer::kKeyParts, kParts = Layer::kParts, kTile = Layer::kTile;
  const int tile = blockIdx.x % Layer::kTiles,
            kv_head = blockIdx.x / Layer::kTiles % Layer::kKvHeads;
  const int launched = blockIdx.x / (Layer::kTiles * Layer::kKvHeads), row = first_row + launched;
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
        reader.begin_part((part + 2) % kParts);
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
    float* record = records + ((size_t(launched) * Layer::kHeads + head) * Layer::kSplits + split) *
                                  Layer::kRecord;
    decode_merge(state, heads, record, bases, reinterpret_cast<float*>(stages));
  }
}

// A block for each row and head, and a thread for two elements. sinks: null for none.
template <class Layer>
__device__ __forceinline__ void decode_join(const float* records, int first_row,
                                            const int* positions, const float* sinks, half* out) {
  constexpr int kSplits = Layer::kSplits, kValueSize = Layer::kValueSize;
  constexpr int kPerLane = (kSplits + 31) / 32, kTogether = 16;
  const int row = first_row + blockIdx.x / Layer::kHeads, head = blockIdx.x % Layer::kHeads;
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
    reinterpret_cast<half2*>(out + (size_t(row) * Layer::kHeads + head) * kValueSize)[pair] =
        __floats2half2_rn(value.x / total, value.y / total);
}
