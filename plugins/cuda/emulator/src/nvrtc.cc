// NVRTC (libnvrtc.so.13), as far as TVM and mlc_llm ask for it: makes machine code for the emulated
// GPU. kernel_compiler.py does the work, in a process of its own.
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

// As in nvrtc.h, which comes only with the large library.
enum nvrtcResult {
  NVRTC_SUCCESS = 0,
  NVRTC_ERROR_COMPILATION = 6,
  NVRTC_ERROR_INTERNAL_ERROR = 11
};
typedef struct Program {
  std::string source, code, log;
}* nvrtcProgram;

namespace {

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The architecture that the options name; NVRTC's own default where they name none.
std::string architecture(int count, const char* const* options) {
  std::string found = "sm_75";
  for (int i = 0; i < count; ++i) {
    std::string option = options[i], value;
    size_t equals = option.find('=');
    std::string name = option.substr(0, equals);
    if (name != "-arch" && name != "--gpu-architecture") continue;
    if (equals != std::string::npos)
      found = option.substr(equals + 1);
    else if (i + 1 < count)
      found = options[i + 1];
  }
  return found;
}

bool checked() {
  const char* text = getenv("GPU_EMULATOR_CHECK");
  return text && *text && strcmp(text, "0");
}

// Runs the compiler without the emulated GPU, which it does not need; what it says goes to `log`.
int run_compiler(const std::string& source, const std::string& output,
                 const std::string& architecture, const std::string& log) {
  const char* command[] = {COMPILE_KERNELS,
                           source.c_str(),
                           output.c_str(),
                           architecture.c_str(),
                           checked() ? "checked" : "plain",
                           nullptr};
  pid_t child = fork();
  if (child == 0) {
    unsetenv("LD_PRELOAD");
    if (!freopen(log.c_str(), "w", stderr)) _exit(127);
    execv(command[0], const_cast<char* const*>(command));
    _exit(127);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child ? status : -1;
}

nvrtcResult copy(const std::string& text, char* out) {
  memcpy(out, text.data(), text.size());
  return NVRTC_SUCCESS;
}

nvrtcResult size(const std::string& text, size_t* bytes) {
  *bytes = text.size();
  return NVRTC_SUCCESS;
}

}  // namespace

extern "C" {

const char* nvrtcGetErrorString(nvrtcResult result) {
  return result == NVRTC_SUCCESS ? "NVRTC_SUCCESS" : "NVRTC_ERROR_COMPILATION";
}

nvrtcResult nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char*, int,
                               const char* const*, const char* const*) {
  *program = new Program{source, "", std::string(1, '\0')};
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program) {
  delete *program;
  *program = nullptr;
  return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char* const* options) {
  char folder[] = "/tmp/gpu-emulator-XXXXXX";
  if (!mkdtemp(folder)) return NVRTC_ERROR_INTERNAL_ERROR;
  std::string base = std::string(folder) + "/kernels";
  std::ofstream(base + ".cu") << program->source;
  int status =
      run_compiler(base + ".cu", base + ".so", architecture(count, options), base + ".log");
  program->log = read(base + ".log") + '\0';
  program->code = read(base + ".so");
  for (const char* end : {".cu", ".so", ".log"}) unlink((base + end).c_str());
  rmdir(folder);
  return status ? NVRTC_ERROR_COMPILATION : NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* bytes) {
  return size(program->log, bytes);
}
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* out) { return copy(program->log, out); }
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* bytes) {
  return size(program->code, bytes);
}
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* out) { return copy(program->code, out); }

// PTX is machine code, too, that says of itself that later GPUs run it.
nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t* bytes) {
  return size(program->code, bytes);
}
nvrtcResult nvrtcGetPTX(nvrtcProgram program, char* out) { return copy(program->code, out); }
}
