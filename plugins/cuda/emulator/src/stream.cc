#include "stream.h"

#include <memory>
#include <thread>

#include "error.h"

namespace emulator {
namespace {

struct Stream {
  bool blocks;  // whether it is ordered with the default stream
};

struct Capture {
  cudaStream_t stream;
  bool for_all_threads;  // whether it restricts the calls of other threads
  std::thread::id thread;
  bool broken;
  std::unique_ptr<Graph> graph;
};

std::unique_ptr<Capture> capture;
bool launching;

bool is_default(cudaStream_t stream) { return !stream || stream == cudaStreamLegacy; }

cudaError_t refuse(cudaError_t error, const char* why) {
  complain(why);
  capture->broken = true;
  return error;
}

}  // namespace

cudaStream_t create_stream(unsigned flags) {
  return reinterpret_cast<cudaStream_t>(new Stream{!(flags & cudaStreamNonBlocking)});
}

void destroy_stream(cudaStream_t stream) { delete reinterpret_cast<Stream*>(stream); }

cudaError_t submit(cudaStream_t stream, Work work) {
  if (capture && stream == capture->stream)
    capture->graph->push_back(std::move(work));
  else if (capture && is_default(stream) && reinterpret_cast<Stream*>(capture->stream)->blocks)
    return refuse(cudaErrorStreamCaptureImplicit,
                  "the default stream was used while one that is ordered with it is captured");
  else
    work();
  return cudaSuccess;
}

cudaError_t refusal() {
  if (!capture) return cudaSuccess;
  if (!capture->for_all_threads && capture->thread != std::this_thread::get_id())
    return cudaSuccess;
  return refuse(cudaErrorStreamCaptureUnsupported,
                "memory was asked for, or a stream waited for, while a stream is captured");
}

cudaError_t begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (capture || is_default(stream)) return cudaErrorStreamCaptureUnsupported;
  capture.reset(new Capture{stream, mode == cudaStreamCaptureModeGlobal,
                            std::this_thread::get_id(), false, std::make_unique<Graph>()});
  return cudaSuccess;
}

cudaError_t end_capture(cudaStream_t stream, Graph** graph) {
  *graph = nullptr;
  if (!capture || capture->stream != stream) return cudaErrorInvalidValue;
  std::unique_ptr<Capture> ended = std::move(capture);
  if (ended->broken) return cudaErrorStreamCaptureInvalidated;
  *graph = ended->graph.release();
  return cudaSuccess;
}

void launch(const Graph& graph) {
  launching = true;
  for (const Work& work : graph)
    if (!lasting_error()) work();
  launching = false;
}

bool in_graph() { return launching; }

}  // namespace emulator
