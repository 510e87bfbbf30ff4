// What a block multiplies at a time: kTokens rows of x and kRows rows of w, kDepth columns of
// both. Copies to shared memory run up to kStages - 1 steps ahead.
//
// Shared memory holds rows in pieces of 16 bytes, 8 halves.

constexpr int kTileThreads = 128;

template <int kTokens_, int kRows_, int kDepth_, int kStages_>
struct Tile {
  static constexpr int kTokens = kTokens_, kRows = kRows_;
  static constexpr int kDepth = kDepth_, kStages = kStages_;
  static constexpr int kPieces = kDepth / 8;
};

// Pieces from a row to the next one, and where a piece is. The same piece of 8 neighbouring rows is
// in different banks: a row's pieces change places, or, where they are no power of two, rows are
// apart.
template <int kPieces>
constexpr int kPitch = kPieces & (kPieces - 1) ? kPieces | 1 : kPieces;

template <int kPieces>
__device__ __forceinline__ int place(int row, int piece) {
  if constexpr (kPitch<kPieces> != kPieces || kPieces > 8) return row * kPitch<kPieces> + piece;
  else return row * kPieces + (piece ^ row / (8 / kPieces) % kPieces);
}

// The rows of w in a tile of kRows: those of neighbouring outputs, or, where an output is made of
// two sums (a gate and its factor), those of half as many, and as far behind as there are outputs.
//
// Rows change places within 32, for what tensor cores give a lane: two sums each of four tiles of 8
// rows, at places 8 i + 2 t and the next one. These are of neighbouring outputs: 8 of them, or 4
// gates, then their 4 factors.
template <int kRows, int kParts>
struct TileRows {
  static constexpr int kOfPart = kRows / kParts;
  int first, outputs;  // the tile's first output, and all outputs

  __device__ __forceinline__ int all() const { return outputs * kParts; }

  // The row of a place, as if the parts of the tile lay behind each other.
  static __device__ __forceinline__ int line(int place) {
    if constexpr (kParts == 1) return (place & ~30) | (place & 6) << 2 | (place >> 2 & 6);
    const int output = place / 32 * 16 + ((place & 1) | (place & 6) << 1 | (place >> 2 & 2));
    return output + (place & 16 ? kOfPart : 0);
  }

  // That row in w; past the end that of the last output.
  __device__ __forceinline__ int row(int place) const {
    const int at = line(place);
    return min(first + at % kOfPart, outputs - 1) + at / kOfPart * outputs;
  }

  // The row in w of a line that is there, and of a line that is not, no row of w.
  __device__ __forceinline__ int row_of_line(int at) const {
    return first + at % kOfPart < outputs ? first + at % kOfPart + at / kOfPart * outputs : -1;
  }
};

// Calls a function with each of kCount numbers; threads share them.
template <int kCount, class Function>
__device__ __forceinline__ void share(const Function& function) {
#pragma unroll
  for (int i = 0; i < (kCount + kTileThreads - 1) / kTileThreads; ++i) {
    const int number = i * kTileThreads + threadIdx.x;
    if (kCount % kTileThreads == 0 || number < kCount) function(number);
  }
}

// Begins to copy kPieces of each of kRows rows, from the piece `first` on. row_of says which row of
// the matrix it is; a row there has kOfRow pieces, and zeros follow them.
template <int kRows, int kPieces, int kOfRow, class RowOf>
__device__ __forceinline__ void copy_rows(uint4* to, const void* from, int first, RowOf row_of) {
  share<kRows * kPieces>([&](int number) {
    const int row = number / kPieces, piece = number % kPieces;
    const bool is_there = kOfRow % kPieces == 0 || first + piece < kOfRow;
    const int at = row_of(row) * kOfRow + (is_there ? first + piece : 0);
    begin_copy(to + place<kPieces>(row, piece), reinterpret_cast<const uint4*>(from) + at,
               is_there ? 16 : 0);
  });
}

// The same with kWords words of each row, for what is not in whole pieces. first_of says with which
// half of the matrix a row begins: in its word or in the middle of it. The matrix has `halves`;
// past them there are zeros, unless kAreThere.
template <int kRows, int kWords, bool kAreThere, class FirstOf>
__device__ __forceinline__ void copy_words(unsigned* to, const void* from, int halves,
                                           FirstOf first_of) {
  share<kRows * kWords>([&](int number) {
    const int word = first_of(number / kWords) / 2 + number % kWords;
    const int bytes = kAreThere ? 4 : min(max(2 * halves - 4 * word, 0), 4);
    begin_copy_4(to + number, reinterpret_cast<const unsigned*>(from) + (bytes ? word : 0), bytes);
  });
}

// The same with kLines of a matrix that is stored by columns: kOfPiece rows are a piece.
template <int kLines, int kOfPiece, int kRows, int kParts>
__device__ __forceinline__ void copy_lines(void* to, const void* from, int lines, int first_line,
                                           const TileRows<kRows, kParts>& rows) {
  constexpr int kPieces = kRows / kOfPiece;
  share<kLines * kPieces>([&](int number) {
    const int line = first_line + number / kPieces;
    const int row = rows.row_of_line(number % kPieces * kOfPiece);
    const bool is_there = line < lines && row >= 0;
    const int at = is_there ? (line * rows.all() + row) / kOfPiece : 0;
    begin_copy(reinterpret_cast<uint4*>(to) + number, reinterpret_cast<const uint4*>(from) + at,
               is_there ? 16 : 0);
  });
}
