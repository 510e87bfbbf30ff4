#include "module.h"

#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "device.h"
#include "error.h"
#include "fatbin.h"

namespace emulator {
namespace {

constexpr int kNvidiaMachine = 190;  // EM_CUDA of elf.h

// The length of the file that begins here: the table of sections is at its end.
size_t file_bytes(const Elf64_Ehdr* file) {
  return file->e_shoff + size_t(file->e_shnum) * file->e_shentsize;
}

CUresult refuse(CUresult result, const std::string& why) {
  complain(why);
  return result;
}

}  // namespace

CUresult Module::load(const void* image, Module** module) {
  auto* next = static_cast<const char*>(image);
  if (memcmp(next, kFatbinHeader, sizeof kFatbinHeader)) return load_one(image, module);
  next += sizeof kFatbinHeader;
  CUresult result = CUDA_ERROR_NO_BINARY_FOR_GPU;
  for (uint64_t bytes; memcpy(&bytes, next, sizeof bytes), bytes; next += sizeof bytes + bytes) {
    std::vector<char> code(next + sizeof bytes, next + sizeof bytes + bytes);  // aligned
    result = load_one(code.data(), module);
    if (result != CUDA_ERROR_NO_BINARY_FOR_GPU) break;
  }
  return result;
}

CUresult Module::load_one(const void* image, Module** module) {
  auto* file = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(file->e_ident, ELFMAG, SELFMAG))
    return refuse(CUDA_ERROR_INVALID_IMAGE, "this is not machine code for the emulated GPU");
  if (file->e_machine == kNvidiaMachine)
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "machine code for a real GPU does not run here");
  int memory = memfd_create("gpu-emulator-kernels", MFD_CLOEXEC);
  size_t bytes = file_bytes(file);
  if (memory < 0 || write(memory, image, bytes) != ssize_t(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  std::string path = "/proc/self/fd/" + std::to_string(memory);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return refuse(CUDA_ERROR_INVALID_IMAGE, dlerror());
  auto* architecture = static_cast<const char*>(dlsym(library, "gpu_architecture"));
  if (!architecture)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "machine code without an architecture");
  if (!runs(architecture))
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, std::string("machine code for ") + architecture +
                                                    " does not run on sm_" +
                                                    std::to_string(compute_capability()));
  *module = new Module(library, memory);
  return CUDA_SUCCESS;
}

// The file stays open as long as the library: another one of the same path would be taken for it.
Module::~Module() {
  dlclose(library_);
  close(file_);
}

Kernel* Module::kernel(const std::string& name) {
  auto& kernel = kernels_[name];
  if (kernel) return kernel.get();
  auto* describe =
      reinterpret_cast<void (*)(GpuKernel*)>(dlsym(library_, ("gpu_kernel_" + name).c_str()));
  if (!describe) return nullptr;
  kernel = std::make_unique<Kernel>();
  kernel->name = name;
  describe(&kernel->code);
  return kernel.get();
}

}  // namespace emulator
