// Tiles of keys or values in shared memory: from the pages of the KV cache, to the tensor cores.

constexpr int kPageSlots = 16;

// Rows of kSize halves, in columns of 16 bytes. A row's columns are exchanged, so that eight
// neighbouring rows have the same column in different banks: they are read at once.
template <int kSize>
struct PageTile {
  static constexpr int kColumns = kSize / 8;
  static constexpr int kShifts = kColumns % 8 == 0 ? 8 : kColumns % 4 == 0 ? 4 : 2;

  // Where a row has a column, in bytes.
  static __device__ __forceinline__ unsigned place(unsigned row, unsigned column) {
    return 16 * (row * kColumns + (column ^ row / (8 / kShifts) % kShifts));
  }

  // The place that is 16 `rows` and 2 `columns` further than one in column 0 or 1.
  static __device__ __forceinline__ unsigned further(unsigned place, int rows, int columns) {
    constexpr int kPairs = kShifts / 2;
    return (place ^ 32 * (columns % kPairs)) +
           16 * (16 * rows * kColumns + columns / kPairs * kShifts);
  }
};

// The pages of the keys from `first` on. Past the last key a sequence has none: the last one's page
// is named again.
template <int kPages>
__device__ __forceinline__ void find_pages(unsigned (&pages)[kPages], const int* of_sequence,
                                           unsigned first, unsigned last) {
#pragma unroll
  for (int i = 0; i < kPages; ++i)
    pages[i] = of_sequence[min(first / kPageSlots + i, last / kPageSlots)];
}

// Begins to copy a tile, of which each page has 16 rows side by side. `own` is where the rows begin
// in page 0, and 16 bytes more for each thread before this one; it is a number, since the compiler
// makes one instruction of its sum with the product. With kZeros, rows from `count` on are zeros.
template <int kSize, int kThreads, size_t kPageBytes, bool kZeros, int kPages>
__device__ __forceinline__ void copy_tile(unsigned tile, size_t own,
                                          const unsigned (&pages)[kPages], int count) {
  constexpr int kColumns = PageTile<kSize>::kColumns, kPieces = kPageSlots * kColumns;
  // Where the threads copy whole eights of rows at a time, each has its columns in one order.
  constexpr bool kOneOrder = kThreads % (8 * kColumns) == 0;
#pragma unroll
  for (int begin = 0; begin < kPieces; begin += kThreads) {
    const unsigned piece = begin + threadIdx.x, row = piece / kColumns;
    if (kPieces % kThreads && piece >= kPieces) break;
    const unsigned from = kOneOrder ? threadIdx.x : piece;
    const unsigned place =
        tile + PageTile<kSize>::place(from / kColumns, from % kColumns) + 16 * (piece - from);
#pragma unroll
    for (int i = 0; i < kPages; ++i)
      begin_copy(place + 16 * i * kPieces,
                 reinterpret_cast<const uint4*>(own + pages[i] * kPageBytes) + begin,
                 kZeros && int(row) >= count - i * kPageSlots ? 0 : 16);
  }
}
