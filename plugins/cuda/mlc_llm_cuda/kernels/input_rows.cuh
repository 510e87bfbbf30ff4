// Where a block finds the rows of x that it multiplies.

// As they are, in global memory.
struct AsGiven {
  __device__ __forceinline__ const half* operator()(const half* x) const { return x; }
};

// One row, in shared memory. Nothing is multiplied before the barrier, and what `load_ahead` loads
// is on its way then.
template <int kColumns, int kThreads>
struct Staged {
  half* staged;  // shared memory of kColumns halves, in whole vectors of 16 bytes

  __device__ __forceinline__ const half* operator()(const half* x) const {
    constexpr int kVectors = kColumns / 8, kTurns = (kVectors + kThreads - 1) / kThreads;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int vector = turn * kThreads + threadIdx.x;
      if (vector < kVectors)
        reinterpret_cast<uint4*>(staged)[vector] = reinterpret_cast<const uint4*>(x)[vector];
    }
    __syncthreads();
    return staged;
  }
};

__device__ __forceinline__ void load_8(const half* p, float (&values)[8]) {
  const uint4 words = *reinterpret_cast<const uint4*>(p);
  const half2* pairs = reinterpret_cast<const half2*>(&words);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __low2float(pairs[i]);
    values[2 * i + 1] = __high2float(pairs[i]);
  }
}

__device__ __forceinline__ void load_8(const float* p, float (&values)[8]) {
  const float4 low = reinterpret_cast<const float4*>(p)[0];
  const float4 high = reinterpret_cast<const float4*>(p)[1];
  const float all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = all[i];
}

// One row, staged, and normalised: x / sqrt(mean(x^2) + eps) * w, or times 1 + w. Each block
// computes it for itself, in float, and rounds it to half in shared memory, as a kernel of its own
// would.
template <int kColumns, int kThreads, bool kUnitOffset, class Weight>
struct RMSNormed {
  const Weight* weight;
  float eps;
  half* staged;    // shared memory of kColumns halves, in whole vectors of 16 bytes
  float* partial;  // shared memory of a float for each warp

  __device__ __forceinline__ const half* operator()(const half* x) const {
    constexpr int kVectors = kColumns / 8, kTurns = (kVectors + kThreads - 1) / kThreads;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0.0f, values[8], weights[8];
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int vector = turn * kThreads + threadIdx.x;
      if (vector >= kVectors) break;
      load_8(x + 8 * vector, values);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum += values[i] * values[i];
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    sum = 0.0f;
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w) sum += partial[w];
    const float factor = rsqrtf(sum * (1.0f / kColumns) + eps);
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int vector = turn * kThreads + threadIdx.x;
      if (vector >= kVectors) break;
      load_8(x + 8 * vector, values);  // again: by now it is in the L1 cache
      load_8(weight + 8 * vector, weights);
      half2 pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float two[2];
#pragma unroll
        for (int j = 0; j < 2; ++j)
          two[j] = values[2 * i + j] * factor *
                   (kUnitOffset ? 1.0f + weights[2 * i + j] : weights[2 * i + j]);
        pairs[i] = __floats2half2_rn(two[0], two[1]);
      }
      reinterpret_cast<uint4*>(staged)[vector] = *reinterpret_cast<const uint4*>(pairs);
    }
    __syncthreads();
    return staged;
  }
};
