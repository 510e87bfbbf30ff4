// Instructions on numbers: of 32 and 64 bits, and pairs of 16-bit floats.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "ptx_program.h"
#include "threads.h"

namespace emulator {
namespace {

using Run = PtxRun;
using Code = PtxInstruction;

bool is_wide(const Code& code) { return code.has("u64") || code.has("b64") || code.has("s64"); }

template <class Function>
void whole(Run& run, const Code& code, Function function) {
  uint64_t y = function(run.get(code.operands[1]), run.get(code.operands[2]));
  run.set(code.operands[0], is_wide(code) ? y : uint32_t(y));
}

template <class Function>
void real(Run& run, const Code& code, Function function) {
  run.set_real(code.operands[0], function(run.real(code.operands[1])));
}

// Pairs of 16-bit floats; `function` gets three floats, which are exact, and its result is rounded.
template <class Function>
void pair(Run& run, const Code& code, Function function) {
  uint32_t bits[3] = {}, result = 0;
  for (size_t i = 1; i < code.operands.size(); ++i) bits[i - 1] = run.word(code.operands[i]);
  for (int half = 0; half < 2; ++half) {
    double x[3];
    for (int i = 0; i < 3; ++i) {
      uint16_t of_half = uint16_t(bits[i] >> 16 * half);
      x[i] = code.has("bf16x2")
                 ? double(__bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{of_half})))
                 : double(__half2float(__half(__half_raw{of_half})));
    }
    double y = function(x[0], x[1], x[2]);
    uint16_t rounded = code.has("bf16x2") ? __nv_bfloat16_raw(__double2bfloat16(y)).x
                                          : __half_raw(__double2half(y)).x;
    result |= uint32_t(rounded) << 16 * half;
  }
  run.set(code.operands[0], result);
}

bool is_pair(const Code& code) { return code.has("f16x2") || code.has("bf16x2"); }

void add(Run& run, const Code& code) {
  if (is_pair(code)) return pair(run, code, [](double a, double b, double) { return a + b; });
  if (code.has("f32"))
    return run.set_real(code.operands[0], run.real(code.operands[1]) + run.real(code.operands[2]));
  whole(run, code, [](uint64_t a, uint64_t b) { return a + b; });
}

void sub(Run& run, const Code& code) {
  if (is_pair(code)) return pair(run, code, [](double a, double b, double) { return a - b; });
  if (code.has("f32"))
    return run.set_real(code.operands[0], run.real(code.operands[1]) - run.real(code.operands[2]));
  whole(run, code, [](uint64_t a, uint64_t b) { return a - b; });
}

void mul(Run& run, const Code& code) {
  if (is_pair(code)) return pair(run, code, [](double a, double b, double) { return a * b; });
  if (code.has("f32"))
    return run.set_real(code.operands[0], run.real(code.operands[1]) * run.real(code.operands[2]));
  whole(run, code, [](uint64_t a, uint64_t b) { return a * b; });
}

void fma(Run& run, const Code& code) {
  if (is_pair(code))
    return pair(run, code, [](double a, double b, double c) { return std::fma(a, b, c); });
  auto& x = code.operands;
  run.set_real(x[0], fmaf(run.real(x[1]), run.real(x[2]), run.real(x[3])));
}

void exp2(Run& run, const Code& code) {
  real(run, code, [](float x) { return exp2f(x); });
}
void log2(Run& run, const Code& code) {
  real(run, code, [](float x) { return log2f(x); });
}
void rcp(Run& run, const Code& code) {
  real(run, code, [](float x) { return 1.0f / x; });
}
void sqrt(Run& run, const Code& code) {
  real(run, code, [](float x) { return sqrtf(x); });
}
void rsqrt(Run& run, const Code& code) {
  real(run, code, [](float x) { return 1.0f / sqrtf(x); });
}
void tanh(Run& run, const Code& code) {
  real(run, code, [](float x) { return tanhf(x); });
}

void mov(Run& run, const Code& code) { run.set(code.operands[0], run.get(code.operands[1])); }
void and_(Run& run, const Code& code) {
  whole(run, code, [](uint64_t a, uint64_t b) { return a & b; });
}
void or_(Run& run, const Code& code) {
  whole(run, code, [](uint64_t a, uint64_t b) { return a | b; });
}
void xor_(Run& run, const Code& code) {
  whole(run, code, [](uint64_t a, uint64_t b) { return a ^ b; });
}

void shl(Run& run, const Code& code) {
  whole(run, code, [](uint64_t a, uint64_t by) { return by < 64 ? a << by : 0; });
}
void shr(Run& run, const Code& code) {
  whole(run, code, [](uint64_t a, uint64_t by) { return by < 64 ? a >> by : 0; });
}

// Bit i of the table is the result for the bits a = 4, b = 2, c = 1 of i.
void lop3(Run& run, const Code& code) {
  uint32_t a = run.word(code.operands[1]), b = run.word(code.operands[2]);
  uint32_t c = run.word(code.operands[3]), table = run.word(code.operands[4]), result = 0;
  for (int bit = 0; bit < 32; ++bit) {
    unsigned row = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1);
    result |= (table >> row & 1) << bit;
  }
  run.set(code.operands[0], result);
}

// Four of the eight bytes of a and b; bit 3 of a selector repeats the byte's sign.
void prmt(Run& run, const Code& code) {
  uint64_t bytes = uint64_t(run.word(code.operands[2])) << 32 | run.word(code.operands[1]);
  uint32_t selectors = run.word(code.operands[3]), result = 0;
  for (int i = 0; i < 4; ++i) {
    uint32_t selector = selectors >> 4 * i & 15, byte = bytes >> 8 * (selector & 7) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << 8 * i;
  }
  run.set(code.operands[0], result);
}

// Two floats to a pair: the first becomes the high half.
void cvt(Run& run, const Code& code) {
  uint32_t result = 0;
  for (int half = 0; half < 2; ++half) {
    float x = run.real(code.operands[2 - half]);
    uint16_t rounded = code.has("bf16x2") ? __nv_bfloat16_raw(__float2bfloat16_rn(x)).x
                                          : __half_raw(__float2half_rn(x)).x;
    result |= uint32_t(rounded) << 16 * half;
  }
  run.set(code.operands[0], result);
}

void setp(Run& run, const Code& code) {
  int64_t a = run.word(code.operands[1]), b = run.word(code.operands[2]);
  if (code.has("s32")) a = int32_t(a), b = int32_t(b);
  bool holds = code.has("eq")   ? a == b
               : code.has("ne") ? a != b
               : code.has("lt") ? a < b
               : code.has("le") ? a <= b
               : code.has("gt") ? a > b
                                : a >= b;
  run.set(code.operands[0], holds);
}

void barrier(Run& run, const Code& code) {
  if (code.has("warp"))
    gpu_exchange("", 1, run.word(code.operands[0]), run.line);
  else
    gpu_barrier(run.line);
}

// Order in memory is that of the threads here, and a launch begins after the one before it.
void nothing(Run&, const Code&) {}

}  // namespace

PtxFunction scalar_function(const PtxInstruction& code) {
  static const struct {
    const char* name;
    PtxFunction function;
  } kKnown[] = {
      {"add", add},          {"sub", sub},       {"mul", mul},        {"fma", fma},
      {"ex2", exp2},         {"lg2", log2},      {"rcp", rcp},        {"sqrt", sqrt},
      {"rsqrt", rsqrt},      {"tanh", tanh},     {"mov", mov},        {"and", and_},
      {"or", or_},           {"xor", xor_},      {"shl", shl},        {"shr", shr},
      {"lop3", lop3},        {"prmt", prmt},     {"setp", setp},      {"bar", barrier},
      {"barrier", barrier},  {"fence", nothing}, {"membar", nothing}, {"griddepcontrol", nothing},
      {"prefetch", nothing},
  };
  if (code.words[0] == "cvt") return is_pair(code) && code.operands.size() == 3 ? cvt : nullptr;
  if (code.words[0] == "mul" && code.has("hi")) return nullptr;
  if (code.words[0] == "shr" && code.has("s32")) return nullptr;
  if (code.words[0] == "bar" && !code.has("sync")) return nullptr;
  for (auto& known : kKnown)
    if (code.words[0] == known.name) return known.function;
  return nullptr;
}

}  // namespace emulator
