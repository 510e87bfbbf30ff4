// Instructions of a whole warp on small matrices, as the PTX ISA lays them out: a lane's place is
// g = lane / 4 and t = lane % 4.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "access.h"
#include "ptx_program.h"
#include "shared_window.h"

namespace emulator {
namespace {

float number(uint32_t pair, int half, bool is_bfloat16) {
  uint16_t bits = uint16_t(pair >> 16 * half);
  return is_bfloat16 ? __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}))
                     : __half2float(__half(__half_raw{bits}));
}

// d = a b + c: a is 16 x k, b k x 8, c and d 16 x 8, for k = 8 or 16. A lane has of
//   a: rows g and g + 8, columns 2t and 2t + 1; for k = 16 then those at 2t + 8
//   b: rows 2t and 2t + 1; for k = 16 then those at 2t + 8; column g
//   c: row g, columns 2t and 2t + 1; then row g + 8
// Sums are rounded once here; a GPU's are not as exact.
template <int K, bool kBfloat16>
void multiply(PtxRun& run, const PtxInstruction& code) {
  constexpr int kOfA = K / 4, kOfB = K / 8;
  uint32_t own[kOfA + kOfB];
  for (int i = 0; i < kOfA + kOfB; ++i) own[i] = run.word(code.operands[4 + i]);
  const unsigned char* values = gpu_exchange(own, sizeof own, ~0u, run.line);
  auto held = [=](int lane, int index) {
    uint32_t pair;
    memcpy(&pair, values + lane * kLaneBytes + index * 4, sizeof pair);
    return pair;
  };
  int g = gpu_lane() / 4, t = gpu_lane() % 4;
  for (int i = 0; i < 4; ++i) {
    int lower = i / 2, column = 2 * t + i % 2;
    double sum = run.real(code.operands[4 + kOfA + kOfB + i]);
    for (int k = 0; k < K; ++k) {
      int lane_in_row = k % 8 / 2, second = k / 8;
      uint32_t of_a = held(4 * g + lane_in_row, 2 * second + lower);
      uint32_t of_b = held(4 * column + lane_in_row, kOfA + second);
      sum += double(number(of_a, k % 2, kBfloat16)) * number(of_b, k % 2, kBfloat16);
    }
    run.set_real(code.operands[i], float(sum));
  }
}

// Loads 8 x 8 tiles of 16-bit numbers from shared memory: lane 8 i + r gives the address of row r
// of tile i. A lane gets the numbers 2t and 2t + 1 of row g, or of column g where it is transposed.
void load_tiles(PtxRun& run, const PtxInstruction& code) {
  int tiles = code.has("x4") ? 4 : code.has("x2") ? 2 : 1;
  bool transposed = code.has("trans");
  uint32_t own = run.word(code.operands[tiles]);
  const unsigned char* rows = gpu_exchange(&own, sizeof own, ~0u, run.line);
  int g = gpu_lane() / 4, t = gpu_lane() % 4;
  for (int tile = 0; tile < tiles; ++tile) {
    uint32_t result = 0;
    for (int half = 0; half < 2; ++half) {
      int row = transposed ? 2 * t + half : g, column = transposed ? g : 2 * t + half;
      uint32_t address;
      memcpy(&address, rows + (8 * tile + row) * kLaneBytes, sizeof address);
      if (address % 16)
        gpu_fail(("a misaligned address, line " + std::to_string(run.line)).c_str());
      unsigned char* place = shared_place(address, 16) + 2 * column;
      gpu_access(place, 2, kGpuRead);
      uint16_t bits;
      memcpy(&bits, place, sizeof bits);
      result |= uint32_t(bits) << 16 * half;
    }
    run.set(code.operands[tile], result);
  }
}

}  // namespace

PtxFunction matrix_function(const PtxInstruction& code) {
  const std::string name = code.name();
  if (name.rfind("ldmatrix.sync.aligned.m8n8", 0) == 0 && code.has("b16")) return load_tiles;
  const std::string prefix = "mma.sync.aligned.m16n8k";
  if (name == prefix + "16.row.col.f32.f16.f16.f32") return multiply<16, false>;
  if (name == prefix + "16.row.col.f32.bf16.bf16.f32") return multiply<16, true>;
  if (name == prefix + "8.row.col.f32.f16.f16.f32") return multiply<8, false>;
  if (name == prefix + "8.row.col.f32.bf16.bf16.f32") return multiply<8, true>;
  return nullptr;
}

}  // namespace emulator
