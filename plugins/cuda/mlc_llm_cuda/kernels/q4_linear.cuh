// y = x w^T + b + r for up to 8 kTiles tokens, w in codes of 4 bits as MLC stores them: words
// (rows, kColumns / 8) of eight codes, the first in the lowest bits, and scales
// (rows, kColumns / 32). A weight is (code - kZero) scale.
//
// A block multiplies 16 rows of w with all tokens. Its warps take the columns in turn, a piece of
// 128 at a time: a lane reads 16 bytes, the codes of a group, of two rows, so that the weight is
// read once, in whole sectors, as it is stored. Four lanes share a row and a piece, and exchange
// words: then all of them have a word of each group, and the tensor cores multiply a group at a
// time.
//
// An output is the sum of a row, or made of those of a gate's row and its factor's, which are as
// far from each other as there are outputs: a block then has 8 rows of each.
//
// code - kZero is exact in half, and the products with x are exact in float. The sum of a group is
// scaled and added in float, so that a weight is never rounded. In which order the columns of a
// group meet is free: a lane's codes stay where they are.

constexpr int kQ4Warps = 8, kQ4Ahead = 4, kQ4Rows = 16;
constexpr int kQ4Group = 32, kQ4PieceGroups = 4;

struct Q4Piece {  // of two rows
  uint4 codes[2];   // of one group: 32 codes
  uint2 scales[2];  // of four groups
};

template <int kGroups>
__device__ __forceinline__ uint2 q4_scales(const half* of_row, int group) {
  if constexpr (kGroups % 4 == 0) return load_ahead(reinterpret_cast<const uint2*>(of_row + group));
  const unsigned* pairs = reinterpret_cast<const unsigned*>(of_row);  // past the end: the last ones
  return make_uint2(load_ahead(pairs + group / 2),
                    load_ahead(pairs + min(group / 2 + 1, kGroups / 2 - 1)));
}

template <int kGroups>
__device__ __forceinline__ Q4Piece q4_load(const unsigned* words, const half* scales,
                                           const int (&rows)[2], int piece, int t) {
  const uint4* groups = reinterpret_cast<const uint4*>(words);
  const int first = piece * kQ4PieceGroups, own = min(first + t, kGroups - 1);
  Q4Piece loaded;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    loaded.codes[r] = load_ahead_once(groups + rows[r] * kGroups + own);
    loaded.scales[r] = q4_scales<kGroups>(scales + rows[r] * kGroups, first);
  }
  return loaded;
}

// Lane t of four has the words (t, 0..3), and gets the words (0..3, t).
__device__ __forceinline__ void q4_transpose(uint4& w, int t) {
  const bool odd = t & 1, high = t & 2;
  const unsigned a = __shfl_xor_sync(0xffffffffu, odd ? w.x : w.y, 1);
  const unsigned b = __shfl_xor_sync(0xffffffffu, odd ? w.z : w.w, 1);
  w = odd ? make_uint4(a, w.y, b, w.w) : make_uint4(w.x, a, w.z, b);
  const unsigned c = __shfl_xor_sync(0xffffffffu, high ? w.x : w.z, 2);
  const unsigned d = __shfl_xor_sync(0xffffffffu, high ? w.y : w.w, 2);
  w = high ? make_uint4(c, d, w.z, w.w) : make_uint4(w.x, w.y, c, d);
}

__device__ __forceinline__ unsigned word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// The codes i and i + 4 of a word, and i + 1 and i + 5, less kZero, for a word shifted by 4 i bits.
// 0x6400 is 1024 in half; the lowest bits of its fraction count ones, the next four sixteens.
template <int kZero>
__device__ __forceinline__ void q4_unpack(unsigned word, unsigned& even, unsigned& odd) {
  const half2 ones = half2_of(and_or(word, 0x000f000fu, 0x64006400u));
  const half2 sixteens = half2_of(and_or(word, 0x00f000f0u, 0x64006400u));
  even = bits_of(__hsub2(ones, __float2half2_rn(1024.0f + kZero)));
  odd = bits_of(__hfma2(sixteens, __float2half2_rn(1.0f / 16), __float2half2_rn(-64.0f - kZero)));
}

// Adds the products of a piece to sums[tile]: (row, token) as the tensor cores have them.
template <int kColumns, int kZero, int kTiles>
__device__ __forceinline__ void q4_multiply(Q4Piece& piece, const half* x, int tokens, int first,
                                            int g, int t, float (&sums)[kTiles][4]) {
  q4_transpose(piece.codes[0], t);
  q4_transpose(piece.codes[1], t);
#pragma unroll
  for (int s = 0; s < kQ4PieceGroups; ++s) {
    const int group = first + s;
    unsigned a[2][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const unsigned word = word_of(piece.codes[r], s);
      q4_unpack<kZero>(word, a[0][r], a[0][r + 2]);
      q4_unpack<kZero>(word >> 8, a[1][r], a[1][r + 2]);
    }
    float scale[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const half2 pair = half2_of(s < 2 ? piece.scales[r].x : piece.scales[r].y);
      scale[r] = s % 2 ? __high2float(pair) : __low2float(pair);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int token = tile * 8 + g;
      uint4 v = make_uint4(0, 0, 0, 0);  // of a token or group that is not there
      if (token < tokens && group * kQ4Group < kColumns)
        v = reinterpret_cast<const uint4*>(x)[token * (kColumns / 8) + group * 4 + t];
      // Codes i and i + 4 meet in a register, and so must their inputs.
      const unsigned b0[2] = {__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632)};
      const unsigned b1[2] = {__byte_perm(v.y, v.w, 0x5410), __byte_perm(v.y, v.w, 0x7632)};
      float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
      mma_m16n8k16(total, a[0], b0);
      mma_m16n8k16(total, a[1], b1);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[tile][i] += scale[i / 2] * total[i];
    }
  }
}

// Where the outputs go, and what is added to them: null for no bias, and for no residual.
template <class Out, class Bias>
struct Q4Results {
  const Bias* bias;     // of each row of w
  const Out* residual;  // (tokens, outputs), as y
  Out* y;
  int outputs;
};

// Input: see input_rows.cuh. Activation: see activation.cuh.
// partial: shared memory of kQ4Warps x 8 kTiles x 16 floats.
template <int kColumns, int kZero, int kTiles, class Activation, class Input, class Out, class Bias>
__device__ __forceinline__ void q4_linear(const half* x, const Input& input, const unsigned* words,
                                          const half* scales, const Q4Results<Out, Bias>& to,
                                          int tokens, float* partial) {
  constexpr int kGroups = kColumns / kQ4Group;
  constexpr int kPieces = (kGroups + kQ4PieceGroups - 1) / kQ4PieceGroups;
  constexpr int kTurns = (kPieces + kQ4Warps - 1) / kQ4Warps;
  constexpr int kParts = Activation::kParts, kOutputs = kQ4Rows / kParts;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int first = blockIdx.x * kOutputs, last = to.outputs - 1;
  const int own[2] = {min(first + g, last),
                      kParts == 2 ? min(first + g, last) + to.outputs : min(first + g + 8, last)};
  float sums[kTiles][4] = {};

  // Codes are asked for kQ4Ahead turns before they are used, the first ones before there is an
  // input. All warps take the same number of turns. Past the end a piece is the last one again, and
  // meets zeros: lanes that exchange words must not be in a branch of which the compiler cannot see
  // that they take it together.
  const auto load = [&](int turn) {
    return q4_load<kGroups>(words, scales, own, min(turn * kQ4Warps + warp, kPieces - 1), t);
  };
  Q4Piece pieces[kQ4Ahead];
#pragma unroll
  for (int s = 0; s < kQ4Ahead; ++s)
    if (s < kTurns) pieces[s] = load(s);
  const half* rows = input(x);
#pragma unroll 1
  for (int turn = 0; turn < kTurns; turn += kQ4Ahead) {
#pragma unroll
    for (int s = 0; s < kQ4Ahead; ++s) {
      const int group = ((turn + s) * kQ4Warps + warp) * kQ4PieceGroups;
      if (turn + s < kTurns)
        q4_multiply<kColumns, kZero, kTiles>(pieces[s], rows, tokens, group, g, t, sums);
      if (turn + s + kQ4Ahead < kTurns) pieces[s] = load(turn + s + kQ4Ahead);
    }
  }

  constexpr int kTokens = 8 * kTiles;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = tile * 8 + 2 * t + i % 2, row = g + i / 2 * 8;
      partial[(warp * kTokens + token) * kQ4Rows + row] = sums[tile][i];
    }
  __syncthreads();
  static_assert(kTokens * kQ4Rows <= kQ4Warps * 32, "there is a thread for each output");
  const int token = threadIdx.x / kOutputs, place = threadIdx.x % kOutputs, output = first + place;
  if (token >= tokens || output > last) return;
  float totals[kParts];
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    totals[part] = to.bias ? float(to.bias[output + part * to.outputs]) : 0.0f;
#pragma unroll
    for (int w = 0; w < kQ4Warps; ++w)
      totals[part] += partial[(w * kTokens + token) * kQ4Rows + place + 8 * part];
  }
  const float value = Activation::of(totals);
  const int at = token * to.outputs + output;
  to.y[at] = Out(to.residual ? float(to.residual[at]) + value : value);
}
