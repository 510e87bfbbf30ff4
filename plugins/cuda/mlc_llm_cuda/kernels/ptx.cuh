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

// 16 bytes that nothing writes, and that are read once: they need not stay in the L1 cache.
__device__ __forceinline__ uint4 load_once(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// (a & b) | c as one instruction, for which constants must be in registers; NVRTC makes two.
__device__ __forceinline__ unsigned and_or(unsigned a, unsigned b, unsigned c) {
  unsigned d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
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
