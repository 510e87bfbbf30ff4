#include "pipelines.h"

#include <cstdlib>

#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief Set to 1, kernels check the bounds of what they read and write; they are slower. */
constexpr char kChecksVariable[] = "MLC_LLM_VULKAN_BOUNDS_CHECKS";

WGPUShaderRuntimeChecks RuntimeChecks() {
  const char* const value = std::getenv(kChecksVariable);
  const bool wanted = value != nullptr && std::string(value) == "1";
  return wanted ? WGPUShaderRuntimeChecks_BoundsChecks : WGPUShaderRuntimeChecks_None;
}

/*! \brief The WGSL without TVM's directive for subgroups, which wgpu-native has without asking. */
std::string AcceptedWgsl(const std::string& wgsl) {
  const std::string directive = "enable subgroups;";
  const size_t found = wgsl.find(directive);
  if (found == std::string::npos) return wgsl;
  return wgsl.substr(0, found) + wgsl.substr(found + directive.size());
}

}  // namespace

Pipeline::~Pipeline() {
  if (handle_ != nullptr && !WgpuHasPanicked()) wgpu.ComputePipelineRelease(handle_);
}

std::unique_ptr<Pipeline> PipelineCompiler::Compile(const KernelSource& kernel) {
  device_->RequireAlive();
  const uint32_t most = device_->limits().maxStorageBuffersPerShaderStage;
  if (kernel.spec.buffers.size() > most) {
    throw Error(ErrorKind::kRuntime,
                Concat("The kernel ", kernel.name, " takes ", kernel.spec.buffers.size(),
                       " tensors, and a kernel on ", device_->title(), " takes ", most, '.'));
  }
  const Layout* const layout = LayoutFor(kernel.spec);
  const WGPUShaderModule shader = CreateShader(kernel);
  WGPUComputePipelineDescriptor descriptor{};
  descriptor.label = View(kernel.name);
  descriptor.layout = layout->pipeline;
  descriptor.compute.module = shader;
  descriptor.compute.entryPoint = View(kernel.entry);
  ErrorScope scope;
  auto pipeline = std::make_unique<Pipeline>(
      Guarded("compiling a kernel",
              [&] { return wgpu.DeviceCreateComputePipeline(device_->handle(), &descriptor); }),
      layout);
  wgpu.ShaderModuleRelease(shader);
  device_->Check(scope, Concat("The kernel ", kernel.name, " cannot be compiled"));
  ++compiled_;
  return pipeline;
}

WGPUShaderModule PipelineCompiler::CreateShader(const KernelSource& kernel) const {
  const std::string wgsl = AcceptedWgsl(kernel.wgsl);
  WGPUShaderSourceWGSL source{};
  source.chain.sType = WGPUSType_ShaderSourceWGSL;
  source.code = View(wgsl);
  WGPUShaderModuleDescriptor descriptor{};
  descriptor.nextInChain = &source.chain;
  descriptor.label = View(kernel.name);
  ErrorScope scope;
  const WGPUShaderModule shader = Guarded("reading a kernel", [&] {
    return wgpu.DeviceCreateShaderModuleTrusted(device_->handle(), &descriptor, RuntimeChecks());
  });
  if (scope.failed() && shader != nullptr) wgpu.ShaderModuleRelease(shader);
  device_->Check(scope, Concat("The kernel ", kernel.name, " cannot be compiled"));
  return shader;
}

const Layout* PipelineCompiler::LayoutFor(const LaunchSpec& spec) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto key = std::make_pair(spec.writable, spec.uniform_bytes());
  const auto found = layouts_.find(key);
  if (found != layouts_.end()) return &found->second;
  Layout layout = CreateLayout(spec);
  layout.number = layouts_.size();
  return &layouts_.emplace(key, layout).first->second;
}

Layout PipelineCompiler::CreateLayout(const LaunchSpec& spec) const {
  const size_t buffers = spec.buffers.size();
  std::vector<WGPUBindGroupLayoutEntry> entries(buffers + 1, WGPUBindGroupLayoutEntry{});
  for (size_t i = 0; i <= buffers; ++i) {
    entries[i].binding = static_cast<uint32_t>(i);
    entries[i].visibility = WGPUShaderStage_Compute;
    if (i < buffers) {
      entries[i].buffer.type =
          spec.writable[i] ? WGPUBufferBindingType_Storage : WGPUBufferBindingType_ReadOnlyStorage;
    }
  }
  entries[buffers].buffer.type = WGPUBufferBindingType_Uniform;
  entries[buffers].buffer.hasDynamicOffset = 1;
  entries[buffers].buffer.minBindingSize = spec.uniform_bytes();
  Layout layout;
  layout.uniform_bytes = spec.uniform_bytes();
  ErrorScope scope;
  Guarded("describing a kernel", [&] {
    WGPUBindGroupLayoutDescriptor group{};
    group.entryCount = entries.size();
    group.entries = entries.data();
    layout.group = wgpu.DeviceCreateBindGroupLayout(device_->handle(), &group);
    WGPUPipelineLayoutDescriptor pipeline{};
    pipeline.bindGroupLayoutCount = 1;
    pipeline.bindGroupLayouts = &layout.group;
    layout.pipeline = wgpu.DeviceCreatePipelineLayout(device_->handle(), &pipeline);
  });
  if (scope.failed()) {
    wgpu.PipelineLayoutRelease(layout.pipeline);
    wgpu.BindGroupLayoutRelease(layout.group);
  }
  device_->Check(scope, Concat("A layout of ", buffers, " tensors cannot be made"));
  return layout;
}

}  // namespace mlc_llm_vulkan
