// y = x w^T + b for many tokens, on tensor cores: x (tokens, columns) and w (outputs, columns) in
// half, sums in float. How w is stored is the business of dequantize.cuh.
//
// A block makes a tile of y (see tile.cuh) in steps along the columns. Each of its four warps takes
// a quarter of the tile, two and two beside each other. In a step it begins the copies of a later
// step, makes halves of the codes of the next one, and multiplies: a step has one barrier. Whatever
// the tile, an output is the sum of its products in the order of the columns.

// A block's shared memory. Codes are needed a step before the inputs: they have slots of their own.
template <class Tile, class Weight>
struct MatmulMemory {
  uint4 x[Tile::kStages][Tile::kTokens * kPitch<Tile::kPieces>];
  typename Weight::template Stage<Tile> stored[Tile::kStages];
  uint4 halves[2][Weight::kIsCoded ? Tile::kRows * kPitch<Tile::kPieces> : 1];
};

// Adds a step's products to a warp's sums: 16 kTokens tokens by 8 kRows rows of w, whose first rows
// in the tiles of x and w are given. `beside` is done at the same time, while tensor cores work.
template <int kPieces, int kTokens, int kRows, class Beside>
__device__ __forceinline__ void multiply(const uint4* x, const uint4* w, int token, int row,
                                         const Beside& beside,
                                         float (&sums)[kTokens][kRows][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int piece = 0; piece < kPieces; piece += 2) {
    unsigned a[kTokens][4], b[kRows / 2][4];
    // Rows that are 16 apart have their pieces in the same order.
    const uint4* own_x = x + place<kPieces>(token + lane % 16, piece + lane / 16);
    const uint4* own_w = w + place<kPieces>(row + lane / 16 * 8 + lane % 8, piece + lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < kTokens; ++i) load_tiles(a[i], own_x + 16 * i * kPitch<kPieces>);
#pragma unroll
    for (int j = 0; j < kRows / 2; ++j) load_tiles(b[j], own_w + 16 * j * kPitch<kPieces>);
    if (piece == 0) beside();
#pragma unroll
    for (int i = 0; i < kTokens; ++i)
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const unsigned of_w[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma_m16n8k16(sums[i][j], a[i], of_w);
      }
  }
}

// Activation: see activation.cuh. kBytes: of shared memory that there are at `memory`.
template <class Tile, class Activation, int kBytes, class Weight, class Results>
__device__ __forceinline__ void matmul(const half* x, const Weight& weight, const Results& results,
                                       int tokens, unsigned char* memory) {
  using Memory = MatmulMemory<Tile, Weight>;
  static_assert(sizeof(Memory) <= kBytes, "this is what was reserved");
  constexpr int kColumns = Weight::kColumns, kStages = Tile::kStages;
  constexpr int kSteps = (kColumns + Tile::kDepth - 1) / Tile::kDepth;
  constexpr bool kIsCoded = Weight::kIsCoded;
  Memory& shared = *reinterpret_cast<Memory*>(memory);
  using Rows = TileRows<Tile::kRows, Activation::kParts>;
  const int first_token = blockIdx.x * Tile::kTokens;
  const Rows rows{int(blockIdx.y) * Rows::kOfPart, results.outputs};
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int token = warp / 2 * (Tile::kTokens / 2), row = warp % 2 * (Tile::kRows / 2);

  // Past the end the last step's part of w is copied again; it has room, and is not read.
  const auto copy_weight = [&](int step, int slot) {
    weight.copy(shared.stored[slot], min(step, kSteps - 1), rows);
  };
  const auto copy_inputs = [&](int step, int slot) {
    copy_rows<Tile::kTokens, Tile::kPieces, kColumns / 8>(
        shared.x[slot], x, step * Tile::kPieces,
        [&](int place) { return min(first_token + place, tokens - 1); });
  };
  const auto dequantize = [&](int step, int slot) {
    if constexpr (kIsCoded)
      weight.dequantize(shared.stored[slot], step, rows, shared.halves[step % 2]);
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
  float sums[Tile::kTokens / 32][Tile::kRows / 16][4] = {};
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
    multiply<Tile::kPieces>(shared.x[slot], w, token, row, next, sums);
    slot = after(slot);
  }
#pragma unroll
  for (int i = 0; i < Tile::kTokens / 32; ++i)
#pragma unroll
    for (int j = 0; j < Tile::kRows / 16; j += 4)
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int of = first_token + token + 16 * i + 8 * lower + g;
        const int place = row + 8 * (j + t);  // before it are as many sums of the tile
        float eight[8];
#pragma unroll
        for (int n = 0; n < 8; ++n) eight[n] = sums[i][j + n / 2][2 * lower + n % 2];
        if (of < tokens)
          results.template write<Activation>(of, rows.first + place / Activation::kParts, eight);
      }
}
