// What single tokens attend to in a layer, and how a warp reads it: see decode_attention.cuh.

constexpr int kPageKeys = 16, kDecodeWarps = 8;
constexpr int kKeyChunk = 32, kValueChunk = 64;  // elements that the lanes read at once
constexpr int kPart = 128;                       // elements of a page that are read together

// A layer, of whose kGroup heads kTile (8 or 16) share what is read. kWindow is 0 for none.
template <int kHeadsOf, int kKvHeadsOf, int kTileOf, int kKeySizeOf, int kValueSizeOf,
          int kWindowOf, int kSinkOf, int kSplitsOf>
struct DecodeLayer {
  static constexpr int kHeads = kHeadsOf, kKvHeads = kKvHeadsOf, kTile = kTileOf;
  static constexpr int kKeySize = kKeySizeOf, kValueSize = kValueSizeOf;
  static constexpr int kWindow = kWindowOf, kSink = kSinkOf, kSplits = kSplitsOf;
  static constexpr int kGroup = kHeads / kKvHeads, kTiles = (kGroup + kTile - 1) / kTile;
  static constexpr int kEights = kTile / 8;
  static constexpr int kKeyChunks = (kKeySize + kKeyChunk - 1) / kKeyChunk;
  static constexpr int kValueChunks = (kValueSize + kValueChunk - 1) / kValueChunk;
  static constexpr int kKeyParts = (kKeySize + kPart - 1) / kPart;
  static constexpr int kParts = kKeyParts + (kValueSize + kPart - 1) / kPart;
  // Of a part, 16 bytes of each lane.
  static constexpr int kMostPieces =
      2 * (kKeyChunks > 2 * kValueChunks ? kKeyChunks : 2 * kValueChunks);
  static constexpr int kPieces = kMostPieces < 8 ? kMostPieces : 8;
  static constexpr int kRecord = 2 + kValueSize;  // floats: base, sum, outputs
};

// The pages that a row sees, those of sinks first, and their splits.
template <class Layer>
struct DecodePages {
  static constexpr int kSinks = Layer::kWindow ? Layer::kSink : 0;
  static constexpr int kSinkPages = (kSinks + kPageKeys - 1) / kPageKeys;
  int position, skipped, count, share, splits;

  __device__ __forceinline__ explicit DecodePages(int at) : position(at) {
    const int first = Layer::kWindow ? max(at - Layer::kWindow + 1, 0) / kPageKeys : 0;
    skipped = max(first - kSinkPages, 0);
    count = at / kPageKeys + 1 - skipped;
    share = max(kDecodeWarps, (count + Layer::kSplits - 1) / Layer::kSplits);
    splits = (count + share - 1) / share;
  }
  __device__ __forceinline__ int page(int i) const { return i < kSinkPages ? i : i + skipped; }
  __device__ __forceinline__ bool sees(int key) const {
    if (!Layer::kWindow) return key <= position;
    return key <= position && (key > position - Layer::kWindow || key < kSinks);
  }
};

// Copies the pages first, first + kDecodeWarps, ... below `end` of those that a row sees to a
// warp's shared memory, in parts of up to kPart elements: those of the keys, then those of the
// values. Two parts are under way at a time.
template <class Layer>
struct DecodeReader {
  const DecodePages<Layer>& seen;
  const int* table;   // of the row's sequence
  const half* pages;  // from the key head's on
  uint4* memory;      // (2, kPieces, 32 lanes), at this lane's
  int place, end, number, stage = 0;
  const half* page;
  int first, other;  // key of the page; a slot that stands in for those that the row does not see

  __device__ __forceinline__ DecodeReader(const DecodePages<Layer>& seen, const int* table,
                                          const half* pages, uint4* memory, int begin, int end)
      : seen(seen),
        table(table),
        pages(pages),
        memory(memory),
        place(begin - kDecodeWarps),
        end(end) {
    number = table[seen.page(min(begin, end - 1))];  // a warp may have no page
    next_page();
    begin_part(0);
    begin_part(1);
  }

  // The part that was begun first, which is there now.
  __device__ __forceinline__ const uint4* part() const {
    wait_for_copies<1>();
    return memory + stage * (Layer::kPieces * 32);
  }

  // Begins to copy part `i` of the page to where the part that was there is no longer needed.
  __device__ __forceinline__ void begin_part(int i) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int key_slots[2] = {g, g + 8};
    const int value_slots[4] = {2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9};
    if (place < end && i < Layer::kKeyParts)
      copy<Layer::kKeySize>(page, key_slots, i * kPart, t);
    else if (place < end)
      copy<Layer::kValueSize>(page + kPageKeys * Layer::kKeySize, value_slots,
                              (i - Layer::kKeyParts) * kPart, g);
    end_group_of_copies();
    stage ^= 1;
  }

  // The number of the page after the next one is read ahead.
  __device__ __forceinline__ void next_page() {
    constexpr int kElements = kPageKeys * (Layer::kKeySize + Layer::kValueSize);
    place += kDecodeWarps;
    if (place >= end) return;
    page = pages + size_t(number) * (Layer::kKvHeads * kElements);
    first = seen.page(place) * kPageKeys;
    const int last = min(first + kPageKeys - 1, seen.position);
    other = seen.sees(last) ? last - first : 0;
    if (place + kDecodeWarps < end) number = table[seen.page(place + kDecodeWarps)];
  }

  // Of each chunk a lane has the 8 elements of `lane_place`, and zeros beyond the last element.
  // What the row does not see may be NaN, and is not read.
  template <int kSize, int kSlots>
  __device__ __forceinline__ void copy(const half* heads, const int (&slots)[kSlots], int begin,
                                       int lane_place) {
    constexpr int kChunk = kPart * kSlots / 8;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int slot = slots[i % kSlots], chunk = begin + i / kSlots * kChunk;
      if (chunk >= kSize) continue;
      const bool there = chunk + kChunk <= kSize || chunk + lane_place * 8 < kSize;
      const int at = (seen.sees(first + slot) ? slot : other) * kSize + chunk + lane_place * 8;
      begin_copy(memory + (stage * Layer::kPieces + i) * 32, heads + at, there ? 16 : 0);
    }
  }
};
