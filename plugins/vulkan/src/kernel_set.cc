#include "kernel_set.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <utility>

#include "errors.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief More threads than this gain nothing: drivers compile partly behind locks. */
constexpr size_t kMostThreads = 16;

std::unique_ptr<Pipeline> CompileOrKeepError(PipelineCompiler* compiler,
                                             const KernelSource& source) {
  try {
    return compiler->Compile(source);
  } catch (const Error& error) {
    return std::make_unique<Pipeline>(error);
  } catch (const std::exception& error) {
    return std::make_unique<Pipeline>(Error(ErrorKind::kRuntime, error.what()));
  }
}

}  // namespace

const Pipeline& KernelSet::PipelineOn(size_t kernel, int index) {
  const auto place = static_cast<size_t>(index);
  if (place >= kMostDevices || !built_[place].load(std::memory_order_acquire)) Build(index);
  return *pipelines_[place][kernel];
}

void KernelSet::Build(int index) {
  const auto place = static_cast<size_t>(index);
  if (index < 0 || place >= kMostDevices) {
    throw Error(ErrorKind::kValue, Concat("There is no Vulkan device ", index, '.'));
  }
  Context& context = Context::Get(index);
  std::lock_guard<std::mutex> lock(build_mutex_);
  if (built_[place].load(std::memory_order_relaxed)) return;
  context.device().RequireAlive();
  pipelines_[place] = CompileAll(&context.compiler());
  built_[place].store(true, std::memory_order_release);
}

KernelSet::Pipelines KernelSet::CompileAll(PipelineCompiler* compiler) const {
  Pipelines pipelines(sources_.size());
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next++; i < sources_.size(); i = next++) {
      pipelines[i] = CompileOrKeepError(compiler, sources_[i]);
    }
  };
  const size_t cores = std::max<size_t>(std::thread::hardware_concurrency(), 1);
  const size_t threads = std::min({cores, sources_.size(), kMostThreads});
  std::vector<std::thread> helpers;
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // The system gives no more threads; those there are, and this one, do the work.
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  return pipelines;
}

}  // namespace mlc_llm_vulkan
