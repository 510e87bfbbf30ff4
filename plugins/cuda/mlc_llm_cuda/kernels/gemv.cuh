// y = x w^T for one token, w by rows: in halves, or in codes (see dequantize.cuh).
//
// A warp makes the sums of kGemvRows rows of w. Its lanes take the pieces of the rows in turn, some
// words each, so that a warp reads a row's neighbouring words, and x once for all these rows. The
// pieces of a turn are on their way before the first is used.
//
// A code, less the zero, is exact; products and sums are float, and the sum of a piece, which lies
// in one group, is scaled: no weight is rounded.

constexpr int kGemvWarps = 4, kGemvRows = 4, kGemvTurns = 4;

template <class Weight>
struct GemvPiece;

template <int kColumns>
struct GemvPiece<HalfWeight<kColumns>> {
  static constexpr int kCount = 8;
  uint4 halves;

  __device__ __forceinline__ void load(const HalfWeight<kColumns>& w, int row, int number) {
    const uint4* pieces = reinterpret_cast<const uint4*>(w.weight);
    halves = load_ahead_once(pieces + row * (kColumns / 8) + number);
  }

  __device__ __forceinline__ float times(const float (&x)[8], float) const {
    const unsigned words[4] = {halves.x, halves.y, halves.z, halves.w};
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = __half22float2(half2_of(words[i]));
      sum = fmaf(two.y, x[2 * i + 1], fmaf(two.x, x[2 * i], sum));
    }
    return sum;
  }
};

template <int kColumns, int kBits, int kGroup, int kZero>
struct GemvPiece<CodedWeight<kColumns, kBits, kGroup, kZero, false>> {
  using Weight = CodedWeight<kColumns, kBits, kGroup, kZero, false>;
  static constexpr int kWords = kBits == 8 ? 2 : 1, kCount = kWords * Weight::kPerWord;
  unsigned words[kWords], upper, scale, minimum;

  // A row has whole groups, a piece is in one, and the words of what is by groups may be shared.
  __device__ __forceinline__ void load(const Weight& w, int row, int number) {
    const int word = row * (Weight::kOfRow / Weight::kPerWord) + number * kWords;
    if constexpr (kWords == 2) {
      const uint2 two = load_ahead(reinterpret_cast<const uint2*>(w.words + word));
      words[0] = two.x, words[1] = two.y;
    } else {
      words[0] = load_ahead(w.words + word);
    }
    constexpr int kHigh = Weight::kHigh;
    if constexpr (kHigh > 0) {
      const int bit = number * kCount * kHigh;
      upper = w.high[row * (Weight::kOfRow * kHigh / 32) + bit / 32] >> bit % 32;
    }
    scale = factor(w.scales, row, number * kCount / kGroup);
    if constexpr (kZero < 0) minimum = factor(w.minimums, row, number * kCount / kGroup);
  }

  // x: kCount inputs, and their sum.
  __device__ __forceinline__ float times(const float (&x)[kCount], float total) const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kCount; i += 2) {
      const float2 two = __half22float2(Weight::pair(words, upper, i));
      sum = fmaf(two.y, x[i + 1], fmaf(two.x, x[i], sum));
    }
    const float scaled = sum * __low2float(half2_of(scale));
    return kZero < 0 ? fmaf(total, __low2float(half2_of(minimum)), scaled) : scaled;
  }

 private:
  // A group's half, in the lower half of a word; as part of a word if rows have whole ones.
  static __device__ __forceinline__ unsigned factor(const half* of, int row, int group) {
    constexpr int kGroups = Weight::kGroups;
    if constexpr (kGroups % 2 == 0)
      return reinterpret_cast<const unsigned*>(of)[row * (kGroups / 2) + group / 2] >>
             group % 2 * 16;
    else
      return __half_as_ushort(of[row * kGroups + group]);
  }
};

// kCount inputs from a column on; zeros past the end.
template <int kColumns, int kCount>
__device__ __forceinline__ void gemv_inputs(float (&values)[kCount], const half* x, int column) {
  unsigned words[kCount / 2] = {};
  if constexpr (kCount == 8) {
    if (column < kColumns) {
      const uint4 all = *reinterpret_cast<const uint4*>(x + column);
      words[0] = all.x, words[1] = all.y, words[2] = all.z, words[3] = all.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i)
      if (column + 2 * i < kColumns)
        words[i] = *reinterpret_cast<const unsigned*>(x + column + 2 * i);
  }
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float2 two = __half22float2(half2_of(words[i]));
    values[2 * i] = two.x, values[2 * i + 1] = two.y;
  }
}

// Activation: see activation.cuh; results: see matmul.cuh.
template <class Activation, class Weight, class Results>
__device__ __forceinline__ void gemv(const half* x, const Weight& weight, const Results& results) {
  using Piece = GemvPiece<Weight>;
  constexpr int kColumns = Weight::kColumns, kCount = Piece::kCount;
  constexpr int kPieces = (kColumns + kCount - 1) / kCount;  // of a row
  constexpr int kParts = Activation::kParts, kOutputs = kGemvRows / kParts;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = (blockIdx.x * kGemvWarps + warp) * kOutputs, last = results.outputs - 1;
  float sums[kGemvRows] = {};

#pragma unroll 1
  for (int number = lane; number < kPieces; number += 32 * kGemvTurns) {
    Piece pieces[kGemvTurns][kGemvRows];
#pragma unroll
    for (int turn = 0; turn < kGemvTurns; ++turn)
#pragma unroll
      for (int r = 0; r < kGemvRows; ++r) {  // past the end: the last piece, which meets zeros
        const int row = min(first + r % kOutputs, last) + r / kOutputs * results.outputs;
        pieces[turn][r].load(weight, row, min(number + 32 * turn, kPieces - 1));
      }
#pragma unroll
    for (int turn = 0; turn < kGemvTurns; ++turn) {
      float inputs[kCount], total = 0.0f;
      gemv_inputs<kColumns>(inputs, x, (number + 32 * turn) * kCount);
#pragma unroll
      for (int i = 0; i < kCount; ++i) total += inputs[i];
#pragma unroll
      for (int r = 0; r < kGemvRows; ++r) sums[r] += pieces[turn][r].times(inputs, total);
    }
  }
#pragma unroll
  for (int r = 0; r < kGemvRows; ++r)
#pragma unroll
    for (int away = 16; away; away /= 2) sums[r] += __shfl_xor_sync(0xffffffffu, sums[r], away);
#pragma unroll
  for (int i = 0; i < kOutputs; ++i) {
    float own[kParts];
#pragma unroll
    for (int part = 0; part < kParts; ++part) own[part] = sums[part * kOutputs + i];
    if (lane == i) results.template write_one<Activation>(first + i, own);
  }
}
