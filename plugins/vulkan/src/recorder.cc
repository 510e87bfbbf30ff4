#include "recorder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief Bytes of the uniform buffer: 1,024 launches at the alignment of 256 that is usual. */
constexpr uint32_t kUniformBytes = 1 << 18;

/*! \brief Launches of the first batch after a pause, and of the longest batch. */
constexpr uint32_t kShortBatch = 16;
constexpr uint32_t kLongBatch = 256;

}  // namespace

Recorder::Recorder(Device* device)
    : device_(device),
      ring_(kUniformBytes,
            std::max<uint32_t>(device->limits().minUniformBufferOffsetAlignment, 16)),
      uniform_buffer_(CreateBuffer(device, kUniformBytes,
                                   WGPUBufferUsage_Uniform | WGPUBufferUsage_CopyDst,
                                   "the scalars of launches")),
      uniforms_(kUniformBytes),
      batch_limit_(kShortBatch) {}

uint32_t Recorder::KeepUniforms(const std::vector<uint32_t>& words) {
  const auto size = static_cast<uint32_t>(words.size() * sizeof(uint32_t));
  std::optional<uint32_t> offset = ring_.Take(size);
  if (!offset) {
    Flush();
    offset = ring_.Take(size);
  }
  if (!offset) {
    throw Error(ErrorKind::kValue, Concat("A launch has ", words.size(), " scalar arguments."));
  }
  std::memcpy(uniforms_.data() + *offset, words.data(), size);
  return *offset;
}

void Recorder::Dispatch(WGPUComputePipeline pipeline, WGPUBindGroup group, uint32_t uniform_offset,
                        const Grid& grid) {
  BeginPass();
  Guarded("recording a launch", [&] {
    wgpu.ComputePassEncoderSetPipeline(pass_, pipeline);
    wgpu.ComputePassEncoderSetBindGroup(pass_, 0, group, 1, &uniform_offset);
    wgpu.ComputePassEncoderDispatchWorkgroups(pass_, grid.x, grid.y, grid.z);
  });
  ++stats_.launches;
  if (++batched_launches_ >= batch_limit_) Flush();
}

void Recorder::Copy(WGPUBuffer from, uint64_t from_offset, WGPUBuffer to, uint64_t to_offset,
                    uint64_t size) {
  BeginEncoder();
  EndPass();
  Guarded("recording a copy", [&] {
    wgpu.CommandEncoderCopyBufferToBuffer(encoder_, from, from_offset, to, to_offset, size);
  });
}

void Recorder::Flush() {
  if (encoder_ == nullptr) return;
  const WGPUCommandBuffer commands = Finish();
  UploadUniforms();
  last_submission_ = device_->Submit(commands);
  wgpu.CommandBufferRelease(commands);
  ++stats_.submits;
  batch_limit_ = std::min(2 * batch_limit_, kLongBatch);
}

void Recorder::NoteIdle() { batch_limit_ = kShortBatch; }

void Recorder::SubmitWrites() { last_submission_ = device_->Submit(nullptr); }

void Recorder::BeginEncoder() {
  if (encoder_ == nullptr) {
    encoder_ = Guarded("recording commands",
                       [&] { return wgpu.DeviceCreateCommandEncoder(device_->handle(), nullptr); });
  }
}

void Recorder::BeginPass() {
  BeginEncoder();
  if (pass_ != nullptr) return;
  pass_ = Guarded("recording launches",
                  [&] { return wgpu.CommandEncoderBeginComputePass(encoder_, nullptr); });
}

void Recorder::EndPass() {
  if (pass_ == nullptr) return;
  const WGPUComputePassEncoder pass = std::exchange(pass_, nullptr);
  Guarded("recording launches", [&] {
    wgpu.ComputePassEncoderEnd(pass);
    wgpu.ComputePassEncoderRelease(pass);
  });
}

void Recorder::UploadUniforms() {
  const ByteRange batch = ring_.batch();
  if (batch.size() > 0) {
    Guarded("handing over scalars", [&] {
      wgpu.QueueWriteBuffer(device_->queue(), uniform_buffer_, batch.begin,
                            uniforms_.data() + batch.begin, batch.size());
    });
  }
  ring_.EndBatch();
}

WGPUCommandBuffer Recorder::Finish() {
  ErrorScope scope;
  batched_launches_ = 0;
  EndPass();
  const WGPUCommandBuffer commands = Guarded("recording commands", [&] {
    const WGPUCommandEncoder encoder = std::exchange(encoder_, nullptr);
    const WGPUCommandBuffer finished = wgpu.CommandEncoderFinish(encoder, nullptr);
    wgpu.CommandEncoderRelease(encoder);
    return finished;
  });
  if (scope.failed()) {
    // Submitting an invalid command buffer makes wgpu-native panic.
    ring_.EndBatch();
    if (commands != nullptr) wgpu.CommandBufferRelease(commands);
    device_->Check(scope, "The last launches and copies cannot be run");
  }
  return commands;
}

}  // namespace mlc_llm_vulkan
