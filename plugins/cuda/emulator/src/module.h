// Machine code for the emulated GPU: a shared library that kernel_compiler.py made of CUDA's text.
#pragma once
#include <cuda.h>

#include <map>
#include <memory>
#include <string>

#include "threads.h"

namespace emulator {

struct Kernel {
  std::string name;
  GpuKernel code;
  bool large_shared = false;  // it was asked that a launch may have more than usual
};

class Module {
 public:
  // Of several that are joined, the first that this GPU runs.
  static CUresult load(const void* image, Module** module);
  ~Module();

  // Null where there is no kernel of that name.
  Kernel* kernel(const std::string& name);

 private:
  static CUresult load_one(const void* image, Module** module);

  Module(void* library, int file) : library_(library), file_(file) {}

  void* library_;
  int file_;
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace emulator
