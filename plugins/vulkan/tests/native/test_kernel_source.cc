#include "kernel_source.h"
#include "testing.h"

using mlc_llm_vulkan::LaunchSpec;
using mlc_llm_vulkan::ParameterType;
using mlc_llm_vulkan::ParseLaunchSpec;

namespace {

constexpr ParameterType kHandle{3, 64, 1};
constexpr ParameterType kInt{0, 32, 1};
constexpr ParameterType kFloat{2, 32, 1};

TEST(spec_separates_buffers_from_scalars) {
  const LaunchSpec spec =
      ParseLaunchSpec("k", {kHandle, kInt, kHandle, kFloat},
                      {"blockIdx.x", "blockIdx.z", "threadIdx.y", "paramWriteAccess:[0,1]"});
  CHECK((spec.buffers == std::vector<size_t>{0, 2}));
  CHECK((spec.scalars == std::vector<size_t>{1, 3}));
  CHECK((spec.writable == std::vector<bool>{false, true}));
  CHECK((spec.axes == std::vector<size_t>{0, 2, 4}));
  CHECK_EQUAL(spec.parameters, 4u);
  CHECK_EQUAL(spec.uniform_bytes(), 12u);
  CHECK_EQUAL(int{spec.scalar_types[1].code}, 2);
}

TEST(spec_without_buffers) {
  CHECK_EQUAL(ParseLaunchSpec("k", {kInt}, {"paramWriteAccess:[]"}).buffers.size(), 0u);
  CHECK_EQUAL(ParseLaunchSpec("k", {}, {}).uniform_bytes(), 4u);
}

TEST(malformed_tags_are_refused) {
  for (const char* tag :
       {"paramWriteAccess:", "paramWriteAccess:[", "paramWriteAccess:[2]", "paramWriteAccess:[0,]",
        "paramWriteAccess:[0 1]", "paramWriteAccess:[,0]", "paramWriteAccess:0"}) {
    CHECK_ERROR(ParseLaunchSpec("add", {kHandle}, {tag}), "malformed");
  }
  for (const char* tag :
       {"blockIdx.w", "blockIdx.", "threadIdx.xy", "vthread.x", "tirx.use_dyn_shared_memory", ""}) {
    CHECK_ERROR(ParseLaunchSpec("add", {}, {tag}), "unknown");
  }
}

TEST(access_flags_match_the_buffers) {
  CHECK_ERROR(ParseLaunchSpec("add", {kHandle, kHandle}, {"paramWriteAccess:[1]"}),
              "kernel add cannot be used");
  CHECK_ERROR(ParseLaunchSpec("add", {kHandle}, {}), "access flags for 0");
}

}  // namespace
