#include "wgpu_api.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "errors.h"

namespace mlc_llm_vulkan {

WgpuApi wgpu;

namespace {

/*! \brief wgpu-native's major version, whose structs the headers of the build describe. */
constexpr uint32_t kMajorVersion = 29;

#ifdef _WIN32

void* OpenLibrary(const std::string& path) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring wide(static_cast<size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide.data(), length);
  return reinterpret_cast<void*>(LoadLibraryW(wide.c_str()));
}

void* FindSymbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(reinterpret_cast<HMODULE>(library), name));
}

std::string LastProblem() { return Concat("Windows error ", GetLastError()); }

#else

void* OpenLibrary(const std::string& path) { return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); }

void* FindSymbol(void* library, const char* name) { return dlsym(library, name); }

std::string LastProblem() {
  const char* problem = dlerror();
  return problem == nullptr ? "no reason given" : problem;
}

#endif

template <typename Function>
void Fill(Function* function, void* library, const char* name, const std::string& path) {
  void* const symbol = FindSymbol(library, name);
  if (symbol == nullptr) {
    throw Error(ErrorKind::kRuntime, Concat("wgpu-native (", path, ") has no function ", name,
                                            "; install the version of the package wgpu that "
                                            "mlc-llm-vulkan asks for."));
  }
  *function = reinterpret_cast<Function>(symbol);
}

}  // namespace

void OpenWgpu(const std::string& path) {
  void* const library = OpenLibrary(path);
  if (library == nullptr) {
    throw Error(ErrorKind::kRuntime,
                Concat("wgpu-native cannot be opened (", LastProblem(),
                       "). Reinstall the package wgpu: pip install --force-reinstall wgpu."));
  }
  WgpuApi api;
#define MLC_LLM_VULKAN_FILL(name) Fill(&api.name, library, "wgpu" #name, path);
  MLC_LLM_VULKAN_WGPU_FUNCTIONS(MLC_LLM_VULKAN_FILL)
#undef MLC_LLM_VULKAN_FILL
  const uint32_t major = api.GetVersion() >> 24;
  if (major != kMajorVersion) {
    throw Error(
        ErrorKind::kRuntime,
        Concat("wgpu-native (", path, ") is version ", major, ", and mlc-llm-vulkan needs ",
               kMajorVersion, "; install the version of the package wgpu that it asks for."));
  }
  wgpu = api;
}

std::string ToString(WGPUStringView view) {
  if (view.data == nullptr) return "";
  if (view.length == WGPU_STRLEN) return view.data;
  return std::string(view.data, view.length);
}

}  // namespace mlc_llm_vulkan
