// Functions that CUDA C has only on a GPU. The fast ones are as exact as the others here: what a
// GPU makes of them is known only on a GPU.
#pragma once

template <class A, class B,
          class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
inline std::common_type_t<A, B> max(A a, B b) {
  return a > b ? a : b;
}
template <class A, class B,
          class = std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>>>
inline std::common_type_t<A, B> min(A a, B b) {
  return a < b ? a : b;
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// With a rounding of their own, which no compiler may join with another operation.
inline float __fadd_rn(float x, float y) {
  volatile float sum = x + y;
  return sum;
}
inline float __fsub_rn(float x, float y) {
  volatile float difference = x - y;
  return difference;
}
inline float __fmul_rn(float x, float y) {
  volatile float product = x * y;
  return product;
}
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }

template <class To, class From>
inline To gpu_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned x) { return gpu_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return gpu_bits<unsigned>(x); }
inline float __int_as_float(int x) { return gpu_bits<float>(x); }
inline int __float_as_int(float x) { return gpu_bits<int>(x); }
inline int __float2int_rn(float x) { return int(lrintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __mulhi(int x, int y) { return int(int64_t(x) * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return unsigned((uint64_t(high) << 32 | low) >> (by & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
  return unsigned((uint64_t(high) << 32 | low) << (by & 31) >> 32);
}
// Four bytes of eight: those of x are 0 to 3. Bit 3 of a selector repeats the byte's sign.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selectors) {
  uint64_t bytes = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    unsigned selector = selectors >> 4 * i & 15, byte = bytes >> 8 * (selector & 7) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  return result;
}
// The sum of four products of bytes, and c.
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += int(int8_t(a >> 8 * i)) * int8_t(b >> 8 * i);
  return c;
}

template <class T>
inline T __ldg(const T* address) {
  return *address;
}
template <class T>
inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
inline T __ldca(const T* address) {
  return *address;
}
template <class T>
inline void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
inline void __stcg(T* address, T value) {
  *address = value;
}

// --- 16-bit floats: what NVIDIA's headers lack on the host ---------------------------------------

// Products of two are exact in float64, and so is what is added, but for what is far too small.
inline __half __hfma(__half a, __half b, __half c) {
  return __double2half(fma(double(float(a)), double(float(b)), double(float(c))));
}
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
  return __double2bfloat16(fma(double(float(a)), double(float(b)), double(float(c))));
}
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
  return __halves2half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
  return __halves2bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

#define FUNCTION_OF_16_BITS(name, function)                                    \
  inline __half name(__half x) { return __float2half_rn(function(float(x))); } \
  inline __nv_bfloat16 name(__nv_bfloat16 x) { return __float2bfloat16_rn(function(float(x))); }
FUNCTION_OF_16_BITS(hexp, expf)
FUNCTION_OF_16_BITS(hexp2, exp2f)
FUNCTION_OF_16_BITS(hlog, logf)
FUNCTION_OF_16_BITS(hlog2, log2f)
FUNCTION_OF_16_BITS(hsqrt, sqrtf)
FUNCTION_OF_16_BITS(hrsqrt, rsqrtf)
FUNCTION_OF_16_BITS(hrcp, __frcp_rn)
FUNCTION_OF_16_BITS(hsin, sinf)
FUNCTION_OF_16_BITS(hcos, cosf)
FUNCTION_OF_16_BITS(hfloor, floorf)
FUNCTION_OF_16_BITS(hceil, ceilf)
FUNCTION_OF_16_BITS(htrunc, truncf)
FUNCTION_OF_16_BITS(hrint, rintf)
#undef FUNCTION_OF_16_BITS
