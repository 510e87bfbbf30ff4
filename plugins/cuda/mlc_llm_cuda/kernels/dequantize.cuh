// How a block gets its rows of w: a step's part of them is copied to shared memory as it is stored
// (`copy`), and codes become a tile of halves there (`dequantize`).
//
// A code, less the zero, is exact in half. A weight is that times the scale, or plus the minimum,
// rounded once.

// Weights that are halves as they are stored.
template <int kColumns_>
struct HalfWeight {
  static constexpr int kColumns = kColumns_;
  static constexpr bool kIsCoded = false;
  const half* weight;

  template <class Tile>
  struct Stage {
    uint4 halves[Tile::kRows * kPitch<Tile::kPieces>];
  };

  template <class Tile, class Rows>
  __device__ __forceinline__ void copy(Stage<Tile>& stage, int step, const Rows& rows) const {
    copy_rows<Tile::kRows, Tile::kPieces, kColumns / 8>(
        stage.halves, weight, step * Tile::kPieces, [&](int place) { return rows.row(place); });
  }
};

// Weights in codes, as `Scheme` of mlc_llm.plugin.scheme describes them: kZero is negative where
// groups have a minimum. `high` and `minimums` are null where there are none.
template <int kColumns_, int kBits, int kGroup, int kZero, bool kByColumns>
struct CodedWeight {
  static constexpr int kColumns = kColumns_;
  static constexpr bool kIsCoded = true;
  static constexpr int kLow = kBits == 5 || kBits == 6 ? 4 : kBits, kHigh = kBits - kLow;
  static constexpr int kPerWord = 32 / kLow, kGroups = (kColumns + kGroup - 1) / kGroup;
  static constexpr int kOfRow = kGroups * kGroup;  // codes of a row
  const unsigned *words, *high;
  const half *scales, *minimums;

  // By rows, a row's factors (scales, or minimums) may begin in the middle of a word.
  template <class Tile>
  struct Stage {
    static constexpr int kRows = Tile::kRows, kWords = Tile::kDepth / kPerWord;
    static constexpr int kHighWords = Tile::kDepth * kHigh / 32;
    static constexpr int kFactors = Tile::kDepth > kGroup ? Tile::kDepth / kGroup : 1;
    static constexpr int kFactorWords = kGroups % 2 ? kFactors / 2 + 1 : (kFactors + 1) / 2;
    uint4 codes[kRows * kWords / 4];
    unsigned rest[kRows * (kHighWords + kFactorWords * (kZero < 0 ? 2 : 1))];

    __device__ __forceinline__ unsigned* high() { return rest; }
    __device__ __forceinline__ unsigned* factors(int which) {
      return rest + kRows * (kHighWords + which * kFactorWords);
    }
  };

  template <class Tile, class Rows>
  __device__ __forceinline__ void copy(Stage<Tile>& stage, int step, const Rows& rows) const {
    using S = Stage<Tile>;
    const int group = step * Tile::kDepth / kGroup;
    const half* factors[2] = {scales, minimums};
    if constexpr (kByColumns) {
      copy_lines<S::kWords, 4>(stage.codes, words, kOfRow / kPerWord, step * S::kWords, rows);
      if constexpr (kHigh > 0)
        copy_lines<S::kHighWords, 4>(stage.high(), high, kOfRow * kHigh / 32, step * S::kHighWords,
                                     rows);
#pragma unroll
      for (int i = 0; i < (kZero < 0 ? 2 : 1); ++i)
        copy_lines<S::kFactors, 8>(stage.factors(i), factors[i], kGroups, group, rows);
    } else {
      copy_rows<S::kRows, S::kWords / 4, kOfRow / kPerWord / 4>(
          stage.codes, words, step * S::kWords / 4, [&](int place) { return rows.row(place); });
      constexpr int kHighHalves = kOfRow * kHigh / 16;  // of a row
      if constexpr (kHigh > 0)
        copy_words<S::kRows, S::kHighWords, kOfRow % Tile::kDepth == 0>(
            stage.high(), high, rows.all() * kHighHalves, [&](int place) {
              return rows.row(place) * kHighHalves + step * S::kHighWords * 2;
            });
#pragma unroll
      for (int i = 0; i < (kZero < 0 ? 2 : 1); ++i)
        copy_words<S::kRows, S::kFactorWords, kGroups % 2 == 0 && kGroups % S::kFactors == 0>(
            stage.factors(i), factors[i], rows.all() * kGroups,
            [&](int place) { return rows.row(place) * kGroups + group; });
    }
  }

  // A thread makes kRun neighbouring pieces of a row.
  template <class Tile, class Rows>
  static __device__ __forceinline__ void dequantize(Stage<Tile>& stage, int step, const Rows& rows,
                                                    uint4* tile) {
    using S = Stage<Tile>;
    constexpr int kRun = S::kRows * Tile::kPieces / kTileThreads, kWords = 8 * kRun / kPerWord;
    static_assert(kTileThreads % S::kRows == 0 && 8 * kRun % kPerWord == 0 && kWords % 4 == 0);
    const int place_of_row = threadIdx.x % S::kRows, begin = threadIdx.x / S::kRows * kRun;
    const int line = Rows::line(place_of_row);
    const int group = step * Tile::kDepth / kGroup;
    const int odd = (rows.row(place_of_row) * kGroups + group) & 1;
    const auto factor = [&](int which, int column) {  // of a column of the step
      const int local = kGroup < Tile::kDepth ? column / kGroup : 0;
      const half* factors = reinterpret_cast<const half*>(stage.factors(which));
      return __half2half2(kByColumns
                              ? factors[local * S::kRows + line]
                              : factors[2 * S::kFactorWords * place_of_row + odd + local]);
    };

    half2 scale[kRun], minimum[kRun];
#pragma unroll
    for (int piece = 0; piece < kRun; ++piece) {
      scale[piece] = factor(0, 8 * (begin + piece));
      if constexpr (kZero < 0) minimum[piece] = factor(1, 8 * (begin + piece));
    }
    unsigned words[kWords];
    read_words<S>(words, stage, place_of_row, line, 8 * begin / kPerWord);
#pragma unroll
    for (int piece = 0; piece < kRun; ++piece) {
      unsigned upper = 0;
      if constexpr (kHigh > 0) {
        const int bit = 8 * (begin + piece) * kHigh, word = bit / 32;
        upper = stage.high()[kByColumns ? word * S::kRows + line
                                        : place_of_row * S::kHighWords + word] >> bit % 32;
      }
      unsigned pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const half2 value = pair(words, upper, 8 * piece + 2 * i);
        pairs[i] = bits_of(kZero < 0 ? __hfma2(value, scale[piece], minimum[piece])
                                     : __hmul2(value, scale[piece]));
      }
      tile[place<Tile::kPieces>(place_of_row, begin + piece)] =
          make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  }

  // Words of a row of a stage, from `first` on.
  template <class S, int kWords>
  static __device__ __forceinline__ void read_words(unsigned (&words)[kWords], const S& stage,
                                                    int place_of_row, int line, int first) {
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      uint4 four;
      if constexpr (kByColumns) {
        const unsigned* lines = reinterpret_cast<const unsigned*>(stage.codes) + line;
        const auto word = [&](int n) { return lines[(first + i + n) * S::kRows]; };
        four = make_uint4(word(0), word(1), word(2), word(3));
      } else {
        four = stage.codes[place<S::kWords / 4>(place_of_row, (first + i) / 4)];
      }
      words[i] = four.x, words[i + 1] = four.y, words[i + 2] = four.z, words[i + 3] = four.w;
    }
  }

  // The codes `first` and first + 1 of words, less the zero. `upper` has the upper bits of 8 codes.
  // 0x6400 is 1024 in half, and the lowest bits of its fraction count ones.
  template <int kWords>
  static __device__ __forceinline__ half2 pair(const unsigned (&words)[kWords], unsigned upper,
                                               int first) {
    constexpr unsigned kMask = (1u << kLow) - 1, kHighMask = (1u << kHigh) - 1, kOnes = 0x64006400u;
    const unsigned word = words[first / kPerWord];
    const int at = first % kPerWord;
    unsigned v;
    if constexpr (kLow == 8) {
      v = __byte_perm(word, kOnes, 0x5150 + at * 0x0101);
    } else if constexpr (kLow == 4) {
      const unsigned two = __byte_perm(word, word >> 4, 0x0400 + at / 2 * 0x0101);
      v = and_or(two, kMask << 16 | kMask, kOnes);
    } else {
      v = and_or(word >> at * kLow, kMask, kOnes);
      v = and_or(word >> at * kLow << (16 - kLow), kMask << 16, v);
    }
    if constexpr (kHigh > 0) {
      upper >>= first % 8 * kHigh;
      v = and_or(upper << 4, kHighMask << 4, v);
      v = and_or(upper << (20 - kHigh), kHighMask << 20, v);
    }
    return __hsub2(half2_of(v), __float2half2_rn(1024.0f + (kZero < 0 ? 0 : kZero)));
  }
};
