// Work on streams is done when it is asked for, so all streams are one; while one is captured, it
// is written down as a graph instead.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

namespace emulator {

using Work = std::function<void()>;
using Graph = std::vector<Work>;

// Does the work, or adds it to the graph that is being captured.
void submit(Work work);

bool capturing();
void begin_capture();
Graph* end_capture();  // the caller's

}  // namespace emulator
