#include "transfer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "alignment.h"
#include "panic_guard.h"

namespace mlc_llm_vulkan {
namespace {

constexpr uint64_t kMiB = 1 << 20;

/*! \brief The most that one write of the queue stages, and that waits unsubmitted. */
constexpr uint64_t kUploadChunk = 16 * kMiB;
constexpr uint64_t kUnsubmittedUploads = 64 * kMiB;

/*! \brief The staging buffer's least size, and the most that is downloaded at once. */
constexpr uint64_t kSmallestStaging = 64 << 10;
constexpr uint64_t kDownloadChunk = 32 * kMiB;

/*! \brief Where the callback of a mapping leaves its status; it may come from another thread. */
using MapStatus = std::atomic<int>;

void OnMapped(WGPUMapAsyncStatus status, WGPUStringView, void* userdata, void*) {
  static_cast<MapStatus*>(userdata)->store(static_cast<int>(status), std::memory_order_release);
}

}  // namespace

void Transfer::Upload(const void* from, const Buffer& to, uint64_t offset, uint64_t size) {
  if (size == 0) return;
  device_->RequireAlive();
  // What was recorded must see the old content, and writes of the queue overtake it.
  recorder_->Flush();
  const auto* bytes = static_cast<const uint8_t*>(from);
  const uint64_t end = offset + size;
  const uint64_t head = std::min(AlignUp(offset, kWordBytes), end) - offset;
  if (head > 0) WritePartOfWord(bytes, to, offset, head);
  const uint64_t body = AlignDown(size - head, kWordBytes);
  if (body > 0) WriteWords(bytes + head, to, offset + head, body);
  const uint64_t tail = size - head - body;
  if (tail > 0) WritePartOfWord(bytes + head + body, to, offset + head + body, tail);
  stats_.uploaded_bytes += size;
}

void Transfer::WriteWords(const void* from, const Buffer& to, uint64_t offset, uint64_t size) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (uint64_t done = 0; done < size;) {
    const uint64_t chunk = std::min(size - done, kUploadChunk);
    ErrorScope scope;
    Guarded("uploading", [&] {
      wgpu.QueueWriteBuffer(device_->queue(), to.handle, offset + done, bytes + done,
                            static_cast<size_t>(chunk));
    });
    device_->Check(scope, Concat(chunk, " bytes cannot be uploaded"));
    done += chunk;
    LimitUploads(chunk);
  }
}

/*! \brief Keep what waits in staging memory small, with one submission always under way. */
void Transfer::LimitUploads(uint64_t size) {
  unsubmitted_ += size;
  if (unsubmitted_ < kUnsubmittedUploads) return;
  unsubmitted_ = 0;
  recorder_->SubmitWrites();
  if (upload_in_flight_) device_->Wait(&previous_upload_);
  previous_upload_ = recorder_->last_submission();
  upload_in_flight_ = true;
}

void Transfer::WritePartOfWord(const uint8_t* from, const Buffer& to, uint64_t offset,
                               uint64_t size) {
  const uint64_t word_offset = AlignDown(offset, kWordBytes);
  uint8_t word[kWordBytes] = {};
  const bool rest_is_padding = offset == word_offset && offset + size == to.size;
  if (!rest_is_padding) DownloadChunk(to, word_offset, word, kWordBytes);
  std::memcpy(word + (offset - word_offset), from, static_cast<size_t>(size));
  WriteWords(word, to, word_offset, kWordBytes);
}

void Transfer::Download(const Buffer& from, uint64_t offset, void* to, uint64_t size) {
  device_->RequireAlive();
  auto* bytes = static_cast<uint8_t*>(to);
  for (uint64_t done = 0; done < size;) {
    const uint64_t chunk = std::min(size - done, kDownloadChunk);
    DownloadChunk(from, offset + done, bytes + done, chunk);
    done += chunk;
  }
  stats_.downloaded_bytes += size;
}

void Transfer::DownloadChunk(const Buffer& from, uint64_t offset, uint8_t* to, uint64_t size) {
  const ByteRange words = CoveringWords(offset, size);
  RequireStaging(words.size());
  recorder_->Copy(from.handle, words.begin, staging_, 0, words.size());
  recorder_->Flush();
  ReadStaging(words.size(), offset - words.begin, to, size);
  recorder_->NoteIdle();
}

void Transfer::ReadStaging(uint64_t mapped, uint64_t skipped, uint8_t* to, uint64_t size) {
  const WGPUSubmissionIndex submission = recorder_->last_submission();
  MapStatus status{0};
  WGPUBufferMapCallbackInfo callback{};
  callback.mode = WGPUCallbackMode_AllowSpontaneous;
  callback.callback = OnMapped;
  callback.userdata1 = &status;
  ErrorScope scope;
  Guarded("mapping memory", [&] {
    wgpu.BufferMapAsync(staging_, WGPUMapMode_Read, 0, static_cast<size_t>(mapped), callback);
  });
  while (status.load(std::memory_order_acquire) == 0) {
    device_->Wait(&submission);
    // Another thread's wait may have taken the callback, and be about to call it.
    if (status.load(std::memory_order_acquire) == 0) std::this_thread::yield();
  }
  device_->Check(scope, Concat(size, " bytes cannot be downloaded"));
  if (status != static_cast<int>(WGPUMapAsyncStatus_Success)) {
    throw Error(ErrorKind::kRuntime,
                Concat(size, " bytes cannot be downloaded from ", device_->title(), '.'));
  }
  const void* const data = Guarded("mapping memory", [&] {
    return wgpu.BufferGetConstMappedRange(staging_, 0, static_cast<size_t>(mapped));
  });
  std::memcpy(to, static_cast<const uint8_t*>(data) + skipped, static_cast<size_t>(size));
  Guarded("unmapping memory", [&] { wgpu.BufferUnmap(staging_); });
}

void Transfer::RequireStaging(uint64_t size) {
  if (size <= staging_size_) return;
  if (staging_ != nullptr) wgpu.BufferRelease(std::exchange(staging_, nullptr));
  staging_size_ = 0;
  uint64_t rounded = kSmallestStaging;
  while (rounded < size) rounded *= 2;
  staging_ = CreateBuffer(device_, rounded, WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst,
                          "downloads");
  staging_size_ = rounded;
}

void Transfer::Copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset,
                    uint64_t size) {
  if (size == 0) return;
  device_->RequireAlive();
  const bool to_end = to_offset + size == to.size;
  const uint64_t words = AlignUp(size, kWordBytes);
  const bool whole = IsWordAligned(size) || (to_end && from_offset + words <= from.room);
  if (!IsWordAligned(from_offset) || !IsWordAligned(to_offset) || !whole) {
    std::vector<uint8_t> bytes(static_cast<size_t>(size));
    Download(from, from_offset, bytes.data(), size);
    Upload(bytes.data(), to, to_offset, size);
  } else if (from.handle == to.handle) {
    CopyWithin(from, from_offset, to_offset, words);
  } else {
    recorder_->Copy(from.handle, from_offset, to.handle, to_offset, words);
  }
}

/*! \brief Copy by way of another buffer, since WebGPU copies only between two. */
void Transfer::CopyWithin(const Buffer& buffer, uint64_t from_offset, uint64_t to_offset,
                          uint64_t size) {
  const WGPUBuffer between = CreateBuffer(
      device_, size, WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst, "a copy within a tensor");
  recorder_->Copy(buffer.handle, from_offset, between, 0, size);
  recorder_->Copy(between, 0, buffer.handle, to_offset, size);
  wgpu.BufferRelease(between);
}

}  // namespace mlc_llm_vulkan
