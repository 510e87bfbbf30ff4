#include "wgsl_module.h"

#include <tvm/ffi/function.h>

#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "boundary.h"
#include "context.h"
#include "device_api.h"
#include "kernel_set.h"
#include "payload.h"

namespace mlc_llm_vulkan {
namespace {

namespace ffi = tvm::ffi;

constexpr uint8_t kFloatCode = 2;  // kDLFloat
constexpr char kModuleKind[] = "webgpu";

[[noreturn]] void RefuseArgument(const KernelSource& kernel, size_t position,
                                 const std::string& why) {
  throw Error(ErrorKind::kValue,
              Concat("Argument ", position, " of the kernel ", kernel.name, ' ', why, '.'));
}

const Buffer* BufferArgument(const KernelSource& kernel, size_t position, ffi::AnyView argument) {
  const auto pointer = argument.try_cast<void*>();
  if (!pointer || *pointer == nullptr) RefuseArgument(kernel, position, "is not a Vulkan tensor");
  return static_cast<const Buffer*>(*pointer);
}

/*! \brief A scalar as the 4 bytes of its field in the uniform struct. */
uint32_t ScalarWord(const KernelSource& kernel, size_t position, ParameterType type,
                    ffi::AnyView argument) {
  if (type.lanes != 1 || (type.code == kFloatCode && type.bits < 32)) {
    RefuseArgument(kernel, position, "has a type that WGSL kernels do not take");
  }
  if (type.code == kFloatCode) {
    const auto value = static_cast<float>(argument.cast<double>());
    uint32_t word;
    std::memcpy(&word, &value, sizeof(word));
    return word;
  }
  const auto value = argument.cast<int64_t>();
  if (value < INT32_MIN || value > UINT32_MAX) {
    RefuseArgument(kernel, position, Concat("is ", value, ", which needs more than 32 bits"));
  }
  return static_cast<uint32_t>(value);
}

/*! \brief The extents behind the parameters, by axis: blockIdx.x to z, threadIdx.x to z. */
std::array<int64_t, 6> Extents(const KernelSource& kernel, const ffi::PackedArgs& arguments) {
  std::array<int64_t, 6> extents{1, 1, 1, 1, 1, 1};
  for (size_t i = 0; i < kernel.spec.axes.size(); ++i) {
    const auto place = static_cast<int>(kernel.spec.parameters + i);
    extents[kernel.spec.axes[i]] = arguments[place].cast<int64_t>();
  }
  return extents;
}

/*! \brief Read a launch's arguments; there is nothing to do when the grid is empty. */
void ReadArguments(const KernelSource& kernel, const ffi::PackedArgs& arguments,
                   uint32_t grid_limit, Launch* launch) {
  const LaunchSpec& spec = kernel.spec;
  const size_t expected = spec.parameters + spec.axes.size();
  if (static_cast<size_t>(arguments.size()) != expected) {
    throw Error(ErrorKind::kValue, Concat("The kernel ", kernel.name, " takes ", expected,
                                          " arguments, and ", arguments.size(), " were given."));
  }
  const std::array<int64_t, 6> extents = Extents(kernel, arguments);
  launch->kernel = &kernel;
  launch->grid = FoldGrid(extents[0], extents[1], extents[2], grid_limit, kernel.name);
  if (launch->grid.empty()) return;
  launch->buffers.clear();
  for (const size_t place : spec.buffers) {
    launch->buffers.push_back(BufferArgument(kernel, place, arguments[static_cast<int>(place)]));
  }
  launch->uniforms.clear();
  for (size_t i = 0; i < spec.scalars.size(); ++i) {
    const size_t place = spec.scalars[i];
    launch->uniforms.push_back(
        ScalarWord(kernel, place, spec.scalar_types[i], arguments[static_cast<int>(place)]));
  }
  // packGridDimX is compared with `>`: the last blockIdx.x that has work.
  launch->uniforms.push_back(static_cast<uint32_t>(extents[0] - 1));
}

void LaunchKernel(KernelSet* kernels, size_t index, const ffi::PackedArgs& arguments) {
  const int device = CurrentDevice();
  Context& context = Context::Get(device);
  // Kept between launches, so that they allocate nothing.
  thread_local Launch launch;
  const uint32_t grid_limit = context.device().limits().maxComputeWorkgroupsPerDimension;
  ReadArguments(kernels->sources()[index], arguments, grid_limit, &launch);
  if (launch.grid.empty()) return;
  launch.pipeline = &kernels->PipelineOn(index, device);
  context.Run(launch);
}

class WgslModule final : public ffi::ModuleObj {
 public:
  explicit WgslModule(const ffi::Bytes& bytes)
      : bytes_(bytes),
        kernels_(std::make_shared<KernelSet>(
            ParsePayload(std::string_view(bytes.data(), bytes.size())))) {
    const std::vector<KernelSource>& sources = kernels_->sources();
    for (size_t i = 0; i < sources.size(); ++i) index_of_[sources[i].name] = i;
  }

  const char* kind() const final { return kModuleKind; }

  int GetPropertyMask() const final {
    return ffi::Module::kBinarySerializable | ffi::Module::kRunnable;
  }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    const auto found = index_of_.find(std::string(name));
    if (found == index_of_.end()) return std::nullopt;
    // The function may outlive the module.
    return ffi::Function::FromPacked(
        [kernels = kernels_, index = found->second](ffi::PackedArgs arguments, ffi::Any*) {
          AtBoundary([&] { LaunchKernel(kernels.get(), index, arguments); });
        });
  }

  ffi::Bytes SaveToBytes() const final { return bytes_; }

  ffi::String InspectSource(const ffi::String&) const final {
    std::string source;
    for (const KernelSource& kernel : kernels_->sources()) source += kernel.wgsl + '\n';
    return source;
  }

  void Build(int index) { kernels_->Build(index); }

 private:
  ffi::Bytes bytes_;
  std::shared_ptr<KernelSet> kernels_;
  std::unordered_map<std::string, size_t> index_of_;
};

}  // namespace

ffi::Module LoadWgslModule(const ffi::Bytes& bytes) {
  return AtBoundary([&] { return ffi::Module(ffi::make_object<WgslModule>(bytes)); });
}

void BuildModule(const ffi::Module& module, int index) {
  if (auto* const wgsl = dynamic_cast<WgslModule*>(
          const_cast<ffi::ModuleObj*>(static_cast<const ffi::ModuleObj*>(module.get())))) {
    AtBoundary([&] { wgsl->Build(index); });
  }
  for (const ffi::Any& import : module->imports()) {
    BuildModule(import.cast<ffi::Module>(), index);
  }
}

}  // namespace mlc_llm_vulkan
