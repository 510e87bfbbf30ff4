#include <random>
#include <string>

#include "payload.h"
#include "testing.h"

using mlc_llm_vulkan::KernelSource;
using mlc_llm_vulkan::ParsePayload;

namespace {

/*! \brief Writes a payload as TVM does. */
class Writer {
 public:
  Writer& Number(uint64_t value, size_t width = 8) {
    for (size_t i = 0; i < width; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xFF);
    return *this;
  }
  Writer& String(const std::string& text) {
    Number(text.size());
    bytes_ += text;
    return *this;
  }
  /*! \brief A function record with a buffer, an int32 and one extra number. */
  Writer& Record(const std::string& key, const std::string& entry) {
    String(key).String(entry);
    Number(2).Number(3, 1).Number(64, 1).Number(1, 2).Number(0, 1).Number(32, 1).Number(1, 2);
    Number(3).String("blockIdx.x").String("threadIdx.x").String("paramWriteAccess:[1]");
    return Number(1).Number(5, 4);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

std::string TwoKernels() {
  return Writer()
      .Number(2)
      .Record("add", "add_kernel")
      .Record("mul", "mul_kernel")
      .Number(2)
      .String("mul")
      .String("wgsl of mul")
      .String("add")
      .String("wgsl of add")
      .bytes();
}

TEST(payload_gives_kernels) {
  const std::vector<KernelSource> kernels = ParsePayload(TwoKernels());
  CHECK_EQUAL(kernels.size(), 2u);
  CHECK_EQUAL(kernels[0].name, std::string("mul"));
  CHECK_EQUAL(kernels[0].entry, std::string("mul_kernel"));
  CHECK_EQUAL(kernels[0].wgsl, std::string("wgsl of mul"));
  CHECK_EQUAL(kernels[1].name, std::string("add"));
  CHECK_EQUAL(kernels[1].spec.buffers.size(), 1u);
  CHECK(kernels[1].spec.writable[0]);
}

TEST(empty_payload_has_no_kernels) {
  CHECK(ParsePayload(Writer().Number(0).Number(0).bytes()).empty());
}

TEST(truncated_payload_is_refused_at_every_byte) {
  const std::string whole = TwoKernels();
  for (size_t size = 0; size < whole.size(); ++size) {
    CHECK_ERROR(ParsePayload(std::string_view(whole).substr(0, size)), "damaged");
  }
}

TEST(huge_counts_are_refused) {
  CHECK_ERROR(ParsePayload(Writer().Number(UINT64_MAX).bytes()), "damaged");
  CHECK_ERROR(ParsePayload(Writer().Number(1).Number(UINT64_MAX).bytes()), "damaged");
  CHECK_ERROR(ParsePayload(Writer().Number(0).Number(uint64_t{1} << 62).bytes()), "damaged");
  const std::string many_types =
      Writer().Number(1).String("k").String("k").Number(uint64_t{1} << 60).bytes();
  CHECK_ERROR(ParsePayload(many_types), "damaged");
}

TEST(texts_that_are_none_are_refused) {
  for (const char* text : {"wgsl \x1B[0m", "wgsl \xFF", "\xC3"}) {
    const std::string code =
        Writer().Number(1).Record("add", "add").Number(1).String("add").String(text).bytes();
    CHECK_ERROR(ParsePayload(code), "is not UTF-8, or has control characters");
    CHECK_ERROR(ParsePayload(Writer().Number(1).Record(text, "add").bytes()), "is not UTF-8");
    CHECK_ERROR(ParsePayload(Writer().Number(1).Record("add", text).bytes()), "is not UTF-8");
  }
}

TEST(tables_that_do_not_match_are_refused) {
  const std::string no_record = Writer().Number(0).Number(1).String("add").String("code").bytes();
  CHECK_ERROR(ParsePayload(no_record), "add has code, but no parameters");
  const std::string no_code = Writer().Number(1).Record("add", "add").Number(0).bytes();
  CHECK_ERROR(ParsePayload(no_code), "add has no code");
  const std::string twice =
      Writer().Number(2).Record("add", "a").Record("add", "a").Number(0).bytes();
  CHECK_ERROR(ParsePayload(twice), "add is there twice");
  CHECK_ERROR(ParsePayload(TwoKernels() + '\0'), "something follows");
}

TEST(corrupt_payloads_are_parsed_or_refused) {
  const std::string whole = TwoKernels();
  std::minstd_rand random(1);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = whole;
    for (int changes = 0; changes <= i % 3; ++changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    try {
      ParsePayload(bytes);
    } catch (const mlc_llm_vulkan::Error&) {
      ++refused;
    }
  }
  CHECK(refused > 10000);
}

}  // namespace
