// What is made of the sums of an output's rows: kParts of them.

struct Ungated {
  static constexpr int kParts = 1;
  static __device__ __forceinline__ float of(const float (&sums)[1]) { return sums[0]; }
};

// Gated activations: a function of the first sum, times the second. Where exp overflows they are 0
// or x, as they should be.

struct Silu {
  static constexpr int kParts = 2;
  static __device__ __forceinline__ float of(const float (&sums)[2]) {
    return sums[0] / (1.0f + expf(-sums[0])) * sums[1];
  }
};

struct Gelu {  // erfc is exact where 1 + erf would lose what is left
  static constexpr int kParts = 2;
  static __device__ __forceinline__ float of(const float (&sums)[2]) {
    return 0.5f * sums[0] * erfcf(-0.70710678f * sums[0]) * sums[1];
  }
};

struct GeluTanh {  // 1 + tanh(u) = 2 / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3)
  static constexpr int kParts = 2;
  static __device__ __forceinline__ float of(const float (&sums)[2]) {
    const float x = sums[0], minus_2u = -1.59576912f * x * (1.0f + 0.044715f * x * x);
    return x / (1.0f + expf(minus_2u)) * sums[1];
  }
};

struct Relu {
  static constexpr int kParts = 2;
  static __device__ __forceinline__ float of(const float (&sums)[2]) {
    return fmaxf(sums[0], 0.0f) * sums[1];
  }
};

struct Relu2 {
  static constexpr int kParts = 2;
  static __device__ __forceinline__ float of(const float (&sums)[2]) {
    const float positive = fmaxf(sums[0], 0.0f);
    return positive * positive * sums[1];
  }
};
