#include "stream.h"

#include <memory>

namespace emulator {
namespace {

std::unique_ptr<Graph> captured;

}  // namespace

void submit(Work work) {
  if (captured)
    captured->push_back(std::move(work));
  else
    work();
}

bool capturing() { return captured != nullptr; }
void begin_capture() { captured = std::make_unique<Graph>(); }
Graph* end_capture() { return captured.release(); }

}  // namespace emulator
