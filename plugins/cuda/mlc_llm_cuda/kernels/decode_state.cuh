// What single tokens have attended to so far: see decode_attention.cuh.

constexpr int kHeadroom = 14;
constexpr int kPartialRow = kValueChunk + 4;  // the 4 spread lanes over the banks
constexpr float kNoScore = -1e38f;

// Two weights as halves: what they are rounded to, and what is lost by that.
__device__ __forceinline__ void decode_halves(float x, float y, unsigned& high, unsigned& low) {
  const half2 rounded = __floats2half2_rn(x, y);
  const float2 kept = __half22float2(rounded);
  const half2 rest = __floats2half2_rn(x - kept.x, y - kept.y);
  high = *reinterpret_cast<const unsigned*>(&rounded);
  low = *reinterpret_cast<const unsigned*>(&rest);
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
  __device__ __forceinline__ void weigh(const float (&score)[2][4], int t,
                                        unsigned (&high)[kEights][2], unsigned (&low)[kEights][2]) {
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
      sum[u] =
          sum[u] * correction + ((weights[0][0] + weights[0][1]) + (weights[1][0] + weights[1][1]));
#pragma unroll
      for (int n = 0; n < 2; ++n)
        decode_halves(weights[n][0], weights[n][1], high[u][n], low[u][n]);
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
        const unsigned a[4] = {
            __byte_perm(x[0][i], x[1][i], 0x5410), __byte_perm(x[0][i], x[1][i], 0x7632),
            __byte_perm(x[2][i], x[3][i], 0x5410), __byte_perm(x[2][i], x[3][i], 0x7632)};
        float (&tile)[kEights][4] = out[first / 16 + chunk * 4 + i];
#pragma unroll
        for (int u = 0; u < kEights; ++u) {
          mma_m16n8k16(tile[u], a, high[u]);
          mma_m16n8k16(tile[u], a, low[u]);
        }
      }
    }
  }
};

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
