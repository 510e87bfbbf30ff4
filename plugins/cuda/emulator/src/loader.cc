// Whoever opens one of these libraries by a path, as that of NVIDIA's wheel, gets the emulator's:
// the loader itself takes an open library for another one only where the name alone is asked for.
#include <dlfcn.h>

#include <cstring>

namespace {

using Open = void* (*)(const char*, int);

const char* const kNames[] = {"libcuda.so.1", "libcudart.so.13", "libnvrtc.so.13",
                              "libnvfatbin.so.13"};

}  // namespace

extern "C" void* dlopen(const char* path, int flags) {
  static const auto next = reinterpret_cast<Open>(dlsym(RTLD_NEXT, "dlopen"));
  const char* slash = path ? strrchr(path, '/') : nullptr;
  if (slash)
    for (const char* name : kNames)
      if (!strcmp(slash + 1, name)) return next(name, flags);
  // A jump, so that the loader still sees who asked: it looks beside that library first.
  return next(path, flags);
}
