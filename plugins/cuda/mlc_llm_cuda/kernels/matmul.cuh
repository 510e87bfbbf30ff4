// y = x w^T + b for many tokens, on tensor cores: x (tokens, columns) and w (outputs, columns) in
// half, sums in float. How w is stored is the business of dequantize.cuh.
//
// A block makes a tile of y (see tile.cuh) in steps along the columns. Its four warps take a quarter
// of the tile each, two and two beside each other. In a step it begins the copies of a later step,
// makes halves of the codes of the next one, and multiplies: a step has one barrier. Whatever the
// tile, an output is the sum of its products in the order of the columns.

// A block's shared memory. Codes are needed a step before the inputs: they have slots of their own.
template <class Tile, class Weight>
struct MatmulMemory {
  uint4 x[Tile::kStages][Tile::kTokens * kPitch<Tile::kPieces>];
  typename Weight::template Stage<Tile> stored[Tile::kStages];
  uint4 halves[2][Weight::kIsCoded ? Tile::kOutputs * kPitch<Tile::kPieces> : 1];
};

// Eight neighbouring numbers from memory, and to memory: 16 bytes at a time if they are aligned, and
// else those of them before the end, one by one.
template <bool kAligned, class T>
__device__ __forceinline__ void load_eight(float (&v)[8], const T* from, const T* end) {
  alignas(16) T all[8];
#pragma unroll
  for (int i = 0; i < (kAligned ? sizeof(T) / 2 : 8); ++i)
    if constexpr (kAligned)
      reinterpret_cast<uint4*>(all)[i] = reinterpret_cast<const uint4*>(from)[i];
    else
      all[i] = from + i < end ? from[i] : T(0.0f);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = float(all[i]);
}

template <bool kAligned, class T>
__device__ __forceinline__ void store_eight(T* to, const T* end, const float (&v)[8]) {
  alignas(16) T all[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) all[i] = T(v[i]);
#pragma unroll
  for (int i = 0; i < (kAligned ? sizeof(T) / 2 : 8); ++i)
    if constexpr (kAligned)
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(all)[i];
    else if (to + i < end)
      to[i] = all[i];
}

// Where outputs go, and what is added to them. kAligned: there are whole pieces of eight.
template <class Out, class Bias, bool kAligned>
struct MatmulOutputs {
  const Bias* bias;  // null for none
  Out* y;
  int tokens, outputs;

  // Eight neighbouring outputs of a token. (What else follows a product belongs here.)
  __device__ __forceinline__ void write(int token, int output, float (&sums)[8]) const {
    if (token >= tokens || output >= outputs) return;
    if (bias) {
      float added[8];
      load_eight<kAligned>(added, bias + output, bias + outputs);
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[i] += added[i];
    }
    Out* row = y + token * outputs;
    store_eight<kAligned>(row + output, row + outputs, sums);
  }
};

// Adds a step's products to a warp's sums: 16 kRows tokens by 8 kColumns outputs, whose first rows
// in the tiles of x and w are given. `beside` is done at the same time, while tensor cores work.
template <int kPieces, int kRows, int kColumns, class Beside>
__device__ __forceinline__ void multiply(const uint4* x, const uint4* w, int token, int output,
                                         const Beside& beside,
                                         float (&sums)[kRows][kColumns][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int piece = 0; piece < kPieces; piece += 2) {
    unsigned a[kRows][4], b[kColumns / 2][4];
    // Rows that are 16 apart have their pieces in the same order.
    const uint4* own_x = x + place<kPieces>(token + lane % 16, piece + lane / 16);
    const uint4* own_w = w + place<kPieces>(output + lane / 16 * 8 + lane % 8, piece + lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < kRows; ++i) load_tiles(a[i], own_x + 16 * i * kPitch<kPieces>);
#pragma unroll
    for (int j = 0; j < kColumns / 2; ++j) load_tiles(b[j], own_w + 16 * j * kPitch<kPieces>);
    if (piece == 0) beside();
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const unsigned of_w[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma_m16n8k16(sums[i][j], a[i], of_w);
      }
  }
}

// kBytes: of shared memory that there are at `memory`.
template <class Tile, int kBytes, class Weight, class Outputs>
__device__ __forceinline__ void matmul(const half* x, const Weight& weight, const Outputs& outputs,
                                       unsigned char* memory) {
  using Memory = MatmulMemory<Tile, Weight>;
  static_assert(sizeof(Memory) <= kBytes, "this is what was reserved");
  constexpr int kColumns = Weight::kColumns, kStages = Tile::kStages;
  constexpr int kSteps = (kColumns + Tile::kDepth - 1) / Tile::kDepth;
  constexpr bool kIsCoded = Weight::kIsCoded;
  Memory& shared = *reinterpret_cast<Memory*>(memory);
  const int first_token = blockIdx.x * Tile::kTokens, first_output = blockIdx.y * Tile::kOutputs;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int token = warp / 2 * (Tile::kTokens / 2), output = warp % 2 * (Tile::kOutputs / 2);

  // Past the end the last step's part of w is copied again; it has room, and is not read.
  const auto copy_weight = [&](int step, int slot) {
    weight.copy(shared.stored[slot], min(step, kSteps - 1), first_output);
  };
  const auto copy_inputs = [&](int step, int slot) {
    copy_rows<Tile::kTokens, Tile::kPieces, kColumns / 8>(
        shared.x[slot], x, step * Tile::kPieces,
        [&](int row) { return min(first_token + row, outputs.tokens - 1); });
  };
  const auto dequantize = [&](int step, int slot) {
    if constexpr (kIsCoded)
      weight.dequantize(shared.stored[slot], step, first_output, shared.halves[step % 2]);
  };
  const auto after = [](int slot) { return slot == kStages - 1 ? 0 : slot + 1; };

  if constexpr (kIsCoded) {
    copy_weight(0, 0);
    end_group_of_copies();
  }
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < kSteps) {
      copy_inputs(step, step);
      copy_weight(step + kIsCoded, step + kIsCoded);
    }
    end_group_of_copies();
  }
  if constexpr (kIsCoded) {
    wait_for_copies<kStages - 1>();
    __syncthreads();
    dequantize(0, 0);
  }
  float sums[Tile::kTokens / 32][Tile::kOutputs / 16][4] = {};
  int slot = 0;  // step % kStages
#pragma unroll 1
  for (int step = 0; step < kSteps; ++step) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // all have this step's tiles, and are done with those of the step before
    const int ahead = step + kStages - 1, before = slot == 0 ? kStages - 1 : slot - 1;
    if (ahead < kSteps) {
      copy_inputs(ahead, before);
      copy_weight(ahead + kIsCoded, kIsCoded ? slot : before);
    }
    end_group_of_copies();
    const uint4* w;
    if constexpr (kIsCoded) w = shared.halves[step % 2];
    else w = shared.stored[slot].halves;
    // After the last step this makes a tile that is not read.
    const auto next = [&] { dequantize(step + 1, after(slot)); };
    multiply<Tile::kPieces>(shared.x[slot], w, token, output, next, sums);
    slot = after(slot);
  }
#pragma unroll
  for (int i = 0; i < Tile::kTokens / 32; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kOutputs / 16; j += 4)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int of = first_token + token + 16 * i + 8 * lower + g;
        float eight[8];
#pragma unroll
        for (int n = 0; n < 8; ++n) eight[n] = sums[i][j + n / 2][2 * lower + n % 2];
        outputs.write(of, first_output + output + 8 * (j + t), eight);
      }
}
