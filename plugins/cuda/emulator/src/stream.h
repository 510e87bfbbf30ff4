// Work on streams is done when it is asked for, in the order of the host's calls. What a stream is
// told while it is captured becomes a graph instead.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

namespace emulator {

using Work = std::function<void()>;
using Graph = std::vector<Work>;

cudaStream_t create_stream(unsigned flags);
void destroy_stream(cudaStream_t stream);

// Does the work, or adds it to the graph that the stream is captured as; says why it cannot.
cudaError_t submit(cudaStream_t stream, Work work);

// Why this thread may not take memory, or wait for a stream, while some stream is captured.
cudaError_t refusal();

cudaError_t begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t end_capture(cudaStream_t stream, Graph** graph);  // which is the caller's

void launch(const Graph& graph);
bool in_graph();  // whether the kernel that runs is part of one that was launched

}  // namespace emulator
