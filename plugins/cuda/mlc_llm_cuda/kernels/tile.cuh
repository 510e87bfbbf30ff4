// What a block multiplies at a time: kTokens rows of x and kOutputs rows of w, kDepth columns of
// both. Copies to shared memory run up to kStages - 1 steps ahead.
//
// Shared memory holds rows in pieces of 16 bytes, 8 halves.

constexpr int kTileThreads = 128;

template <int kTokens_, int kOutputs_, int kDepth_, int kStages_>
struct Tile {
  static constexpr int kTokens = kTokens_, kOutputs = kOutputs_;
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

// The row of w in a place of a tile of w, counted from the tile's first row. Rows change places
// within 32, so that a lane, to which tensor cores give two sums each of four tiles of 8 outputs,
// has 8 neighbouring outputs.
__device__ __forceinline__ int row_at(int place) {
  return (place & ~30) | (place & 6) << 2 | (place >> 2 & 6);
}

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

// The same with kLines of a matrix that is stored by columns, kPieces of each.
template <int kLines, int kPieces>
__device__ __forceinline__ void copy_lines(void* to, const void* from, int lines, int pieces,
                                           int first_line, int first_piece) {
  share<kLines * kPieces>([&](int number) {
    const int line = first_line + number / kPieces, piece = first_piece + number % kPieces;
    const bool is_there = line < lines && piece < pieces;
    begin_copy(reinterpret_cast<uint4*>(to) + number,
               reinterpret_cast<const uint4*>(from) + (is_there ? line * pieces + piece : 0),
               is_there ? 16 : 0);
  });
}
