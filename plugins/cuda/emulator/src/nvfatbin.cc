// nvFatbin (libnvfatbin.so.13), as far as mlc_llm asks for it: joins machine code for several GPUs.
#include <cstdint>
#include <cstring>
#include <string>

#include "fatbin.h"

struct Fatbin {
  std::string bytes{emulator::kFatbinHeader, sizeof emulator::kFatbinHeader};
};

namespace {

void append(Fatbin* fatbin, const void* code, uint64_t bytes) {
  fatbin->bytes.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  fatbin->bytes.append(static_cast<const char*>(code), bytes);
}

constexpr uint64_t kEnd = 0;

}  // namespace

extern "C" {

const char* nvFatbinGetErrorString(int) { return "NVFATBIN_SUCCESS"; }

int nvFatbinVersion(unsigned* major, unsigned* minor) {
  *major = 13;
  *minor = 0;
  return 0;
}

int nvFatbinCreate(Fatbin** fatbin, const char* const*, size_t) {
  *fatbin = new Fatbin;
  return 0;
}

int nvFatbinDestroy(Fatbin** fatbin) {
  delete *fatbin;
  *fatbin = nullptr;
  return 0;
}

int nvFatbinAddCubin(Fatbin* fatbin, const void* code, size_t bytes, const char*, const char*) {
  append(fatbin, code, bytes);
  return 0;
}

int nvFatbinAddPTX(Fatbin* fatbin, const char* code, size_t bytes, const char*, const char*,
                   const char*) {
  append(fatbin, code, bytes);
  return 0;
}

int nvFatbinSize(Fatbin* fatbin, size_t* bytes) {
  *bytes = fatbin->bytes.size() + sizeof kEnd;
  return 0;
}

int nvFatbinGet(Fatbin* fatbin, void* out) {
  auto* end = static_cast<char*>(out) + fatbin->bytes.size();
  memcpy(out, fatbin->bytes.data(), fatbin->bytes.size());
  memcpy(end, &kEnd, sizeof kEnd);
  return 0;
}
}
