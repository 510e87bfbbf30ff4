// What is made of sums, and where it goes.

// Copies kCount neighbouring numbers, to or from memory: 16 bytes at a time (8 where there are no
// more) if they are aligned there, and else those of them before the end, one by one.
template <bool kAligned, int kCount, class T>
__device__ __forceinline__ void copy_numbers(T* to, const T* from, int before_end) {
  constexpr int kBytes = kCount * sizeof(T);
  if constexpr (kAligned && kBytes % 16 == 0) {
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i)
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
  } else if constexpr (kAligned) {
    static_assert(kBytes == 8);
    *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (i < before_end) to[i] = from[i];
  }
}

// Where outputs go, and what is added to them: null for no bias, and for no residual. kAligned: the
// number of outputs is a multiple of 8.
template <class Out, class Bias, bool kAligned>
struct Results {
  const Bias* bias;     // of each row of w
  const Out* residual;  // (tokens, outputs), as y
  Out* y;
  int outputs;

  // Makes neighbouring outputs of a token of eight sums: all first ones, then all second ones.
  template <class Activation>
  __device__ __forceinline__ void write(int token, int output, float (&sums)[8]) const {
    constexpr int kParts = Activation::kParts, kCount = 8 / kParts;
    const int left = outputs - output;
    if (left <= 0) return;
    if (bias) {
      alignas(16) Bias added[8];
#pragma unroll
      for (int part = 0; part < kParts; ++part)
        copy_numbers<kAligned, kCount>(added + part * kCount, bias + part * outputs + output, left);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[i] += float(added[i]);
    }
    const int at = token * outputs + output;
    alignas(16) Out added[kCount], made[kCount];
    if (residual) copy_numbers<kAligned, kCount>(added, residual + at, left);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float own[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) own[part] = sums[part * kCount + i];
      const float value = Activation::of(own);
      made[i] = Out(residual ? float(added[i]) + value : value);
    }
    copy_numbers<kAligned, kCount>(y + at, made, left);
  }

  // Makes an output of the only token.
  template <class Activation>
  __device__ __forceinline__ void write_one(int output, float (&sums)[Activation::kParts]) const {
    if (output >= outputs) return;
#pragma unroll
    for (int part = 0; part < Activation::kParts; ++part)
      if (bias) sums[part] += float(bias[part * outputs + output]);
    const float value = Activation::of(sums);
    y[output] = Out(residual ? float(residual[output]) + value : value);
  }
};
