// Instructions that CUDA C has no words for.

// d += a b of halves, for a 16 x 16 tile a, a 16 x 8 tile b and a 16 x 8 tile d that a warp holds.
// With g = lane / 4 and t = lane % 4, a lane has, two halves a register, (row, column):
//   a: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..)
//   b: (2t.., g), (2t + 8.., g)
//   d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
// (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type")
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Loads that the compiler leaves before the next barrier, where it would move those of memory that
// nothing writes to where they are used. Of the first one's 16 bytes, which are read once, nothing
// stays in the L1 cache.
__device__ __forceinline__ uint4 load_ahead_once(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}

__device__ __forceinline__ uint2 load_ahead(const uint2* p) {
  uint2 v;
  asm volatile("ld.global.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}

__device__ __forceinline__ unsigned load_ahead(const unsigned* p) {
  unsigned v;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}

// (a & b) | c as one instruction, for which constants must be in registers; NVRTC makes two.
__device__ __forceinline__ unsigned and_or(unsigned a, unsigned b, unsigned c) {
  unsigned d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Two halves in a register.
__device__ __forceinline__ half2 half2_of(unsigned bits) {
  return *reinterpret_cast<const half2*>(&bits);
}

__device__ __forceinline__ unsigned bits_of(half2 pair) {
  return *reinterpret_cast<const unsigned*>(&pair);
}

// An address in shared memory as these instructions take it.
__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 tiles of halves from shared memory, each row 16 bytes: lanes 8 i to 8 i + 7 give the
// addresses of the rows of tile i. A lane gets the halves 2t and 2t + 1 of row g of each tile.
// (PTX ISA, "ldmatrix")
__device__ __forceinline__ void load_tiles(unsigned (&tiles)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(row)
               : "memory");
}

__device__ __forceinline__ void load_tiles(unsigned (&tiles)[4], const uint4* row) {
  load_tiles(tiles, shared_address(row));
}

// The same, transposed: a lane gets the halves of rows 2t and 2t + 1 in column g.
__device__ __forceinline__ void load_tiles_transposed(unsigned (&tiles)[4], unsigned row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(row)
               : "memory");
}

// Begins to copy 16 bytes to shared memory; `bytes` of them are read, the rest are zeros.
__device__ __forceinline__ void begin_copy(unsigned to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void begin_copy(void* to, const void* from, int bytes) {
  begin_copy(shared_address(to), from, bytes);
}

// The same with 4 bytes.
__device__ __forceinline__ void begin_copy_4(void* to, const void* from, int bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes)
               : "memory");
}

// The copies that this thread has begun since the last group are a group.
__device__ __forceinline__ void end_group_of_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for all groups of copies of this thread but the last kPending.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Waits for all copies that this thread has begun.
__device__ __forceinline__ void finish_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// 2^x, wrong by 2 units in the last place at most; 0 where that is below 2^-126. (PTX ISA, "ex2")
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
