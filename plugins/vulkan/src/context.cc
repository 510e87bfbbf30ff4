#include "context.h"

#include <memory>

#include "fork_guard.h"
#include "json.h"
#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief How many bind groups are kept. A model of 100 layers uses a few thousand. */
constexpr size_t kBindGroups = 16384;

/*! \brief The opened devices; never destroyed, since tensors may be freed after static objects. */
struct OpenContexts {
  std::mutex mutex;
  std::vector<std::unique_ptr<Context>> by_index;
};

OpenContexts& Opened() {
  static auto* const opened = new OpenContexts();
  return *opened;
}

/*! \brief Refuse a launch that reads and writes one tensor by two arguments, as WebGPU does. */
void RefuseAliases(const Launch& launch) {
  const std::vector<bool>& writable = launch.kernel->spec.writable;
  for (size_t i = 0; i < launch.buffers.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (launch.buffers[i] != launch.buffers[j] || writable[i] == writable[j]) continue;
      throw Error(
          ErrorKind::kValue,
          Concat("Tensors ", j, " and ", i, " of the kernel ", launch.kernel->name,
                 " are the same, and it reads one and writes the other; on Vulkan they must "
                 "be two."));
    }
  }
}

}  // namespace

Context* Context::Find(int index) {
  // What a forked child frees is its copy of a handle, and the parent's to free.
  if (IsForkedChild()) return nullptr;
  OpenContexts& opened = Opened();
  std::lock_guard<std::mutex> lock(opened.mutex);
  const bool there = index >= 0 && static_cast<size_t>(index) < opened.by_index.size();
  return there ? opened.by_index[static_cast<size_t>(index)].get() : nullptr;
}

Context& Context::Get(int index) {
  RequireNotForked();
  // Once opened, a context stays where it is.
  thread_local int last_index = -1;
  thread_local Context* last = nullptr;
  if (last != nullptr && last_index == index) return *last;
  OpenContexts& opened = Opened();
  std::lock_guard<std::mutex> lock(opened.mutex);
  const auto place = static_cast<size_t>(index);
  if (index < 0 || place >= opened.by_index.size() || opened.by_index[place] == nullptr) {
    auto context = std::make_unique<Context>(index);
    if (place >= opened.by_index.size()) opened.by_index.resize(place + 1);
    opened.by_index[place] = std::move(context);
  }
  last_index = index;
  last = opened.by_index[place].get();
  return *last;
}

Context::Context(int index)
    : device_(index),
      compiler_(&device_),
      recorder_(&device_),
      transfer_(&device_, &recorder_),
      bind_groups_(kBindGroups, [](WGPUBindGroup group) { wgpu.BindGroupRelease(group); }) {}

Buffer* Context::Allocate(uint64_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  device_.RequireAlive();
  Buffer* const buffer = AllocateBuffer(&device_, size, bytes_live_);
  ++buffers_live_;
  bytes_live_ += buffer->room;
  return buffer;
}

void Context::Free(Buffer* buffer) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  --buffers_live_;
  bytes_live_ -= buffer->room;
  // After a panic nothing may be called, and the memory is lost with the process.
  if (WgpuHasPanicked()) return;
  try {
    bind_groups_.ForgetBuffer(buffer->number);
    FreeBuffer(buffer);
  } catch (const std::exception&) {
    // The caller is a destructor. What cannot be freed is lost, and the device reports its loss.
  }
}

void Context::Upload(const void* from, const Buffer& to, uint64_t offset, uint64_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  transfer_.Upload(from, to, offset, size);
}

void Context::Download(const Buffer& from, uint64_t offset, void* to, uint64_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  transfer_.Download(from, offset, to, size);
}

void Context::Copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset,
                   uint64_t size) {
  std::lock_guard<std::mutex> lock(mutex_);
  transfer_.Copy(from, from_offset, to, to_offset, size);
}

void Context::Run(const Launch& launch) {
  std::lock_guard<std::mutex> lock(mutex_);
  device_.RequireAlive();
  const WGPUComputePipeline pipeline = launch.pipeline->handle();
  const WGPUBindGroup group = BindGroupFor(launch);
  const uint32_t offset = recorder_.KeepUniforms(launch.uniforms);
  recorder_.Dispatch(pipeline, group, offset, launch.grid);
}

void Context::Synchronize() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    device_.RequireAlive();
    recorder_.Flush();
    recorder_.NoteIdle();
  }
  // Other threads may record while this one waits.
  device_.Wait(nullptr);
}

void Context::Destroy(bool in_submission) {
  std::lock_guard<std::mutex> lock(mutex_);
  device_.Destroy(in_submission);
}

WGPUBindGroup Context::BindGroupFor(const Launch& launch) {
  key_.clear();
  key_.push_back(launch.pipeline->layout().number);
  for (const Buffer* buffer : launch.buffers) key_.push_back(buffer->number);
  if (const WGPUBindGroup known = bind_groups_.Find(key_)) return known;
  const WGPUBindGroup group = CreateBindGroup(launch);
  bind_groups_.Insert(key_, group);
  ++bind_groups_made_;
  return group;
}

WGPUBindGroup Context::CreateBindGroup(const Launch& launch) {
  RefuseAliases(launch);
  const uint64_t most = device_.limits().maxStorageBufferBindingSize;
  const Layout& layout = launch.pipeline->layout();
  std::vector<WGPUBindGroupEntry> entries(launch.buffers.size() + 1, WGPUBindGroupEntry{});
  for (size_t i = 0; i < entries.size(); ++i) entries[i].binding = static_cast<uint32_t>(i);
  for (size_t i = 0; i < launch.buffers.size(); ++i) {
    const Buffer& buffer = *launch.buffers[i];
    if (buffer.room > most) {
      throw Error(ErrorKind::kValue,
                  Concat("Tensor ", i, " of the kernel ", launch.kernel->name, " has ", buffer.size,
                         " bytes, and kernels on ", device_.title(), " reach ", most,
                         " bytes of a tensor."));
    }
    entries[i].buffer = buffer.handle;
    entries[i].size = buffer.room;
  }
  entries.back().buffer = recorder_.uniform_buffer();
  entries.back().size = layout.uniform_bytes;
  WGPUBindGroupDescriptor descriptor{};
  descriptor.layout = layout.group;
  descriptor.entryCount = entries.size();
  descriptor.entries = entries.data();
  ErrorScope scope;
  const WGPUBindGroup group = Guarded(
      "binding tensors", [&] { return wgpu.DeviceCreateBindGroup(device_.handle(), &descriptor); });
  if (scope.failed() && group != nullptr) wgpu.BindGroupRelease(group);
  device_.Check(scope,
                Concat("The tensors of the kernel ", launch.kernel->name, " cannot be bound"));
  return group;
}

std::string Context::StatsJson() {
  std::lock_guard<std::mutex> lock(mutex_);
  return JsonObject()
      .Number("launches", recorder_.stats().launches)
      .Number("submits", recorder_.stats().submits)
      .Number("bind_groups_made", bind_groups_made_)
      .Number("bind_groups_live", bind_groups_.size())
      .Number("buffers_live", buffers_live_)
      .Number("bytes_live", bytes_live_)
      .Number("uploaded_bytes", transfer_.stats().uploaded_bytes)
      .Number("downloaded_bytes", transfer_.stats().downloaded_bytes)
      .Number("pipelines", compiler_.compiled())
      .Bool("lost", device_.lost())
      .str();
}

}  // namespace mlc_llm_vulkan
