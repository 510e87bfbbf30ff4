// Instructions in the text itself: ptx_text.py makes each `asm` statement a GpuPtx, and its
// operands GpuOperands.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

// A C++ variable or value that an instruction reads, or writes if it has a place.
struct GpuOperand {
  uint64_t bits;
  void* place;
  size_t bytes;
};

extern "C" {
void* gpu_ptx_parse(const char* text);
void gpu_ptx_run(void* program, GpuOperand* operands, int line);
uint64_t gpu_shared_address(const void* address);
}

template <class T>
GpuOperand gpu_input(const T& value) {
  static_assert(sizeof(T) <= 8);
  GpuOperand operand{0, nullptr, sizeof(T)};
  memcpy(&operand.bits, &value, sizeof(T));
  return operand;
}

template <class T>
GpuOperand gpu_output(T& variable) {
  GpuOperand operand = gpu_input(variable);
  operand.place = &variable;
  return operand;
}

struct GpuPtx {
  explicit GpuPtx(const char* text) : program(gpu_ptx_parse(text)) {}
  void* program;
};

inline size_t __cvta_generic_to_shared(const void* address) { return gpu_shared_address(address); }
inline size_t __cvta_generic_to_global(const void* address) {
  return reinterpret_cast<size_t>(address);
}
