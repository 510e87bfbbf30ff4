#include "kernel_source.h"

#include <optional>

#include "errors.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief kDLOpaqueHandle of DLPack, which stands for a pointer. */
constexpr uint8_t kOpaqueHandle = 3;

constexpr char kWriteAccess[] = "paramWriteAccess:";

bool StartsWith(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

/*! \brief The axis that a tag such as blockIdx.x names, counted from a base. */
std::optional<size_t> ParseAxis(const std::string& tag, const std::string& prefix, size_t base) {
  if (!StartsWith(tag, prefix) || tag.size() != prefix.size() + 1) return std::nullopt;
  const char letter = tag.back();
  if (letter < 'x' || letter > 'z') return std::nullopt;
  return base + static_cast<size_t>(letter - 'x');
}

/*! \brief The flags of `[0,1,...]`, or nothing when the text is not of that form. */
std::optional<std::vector<bool>> ParseFlags(const std::string& text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
  std::vector<bool> flags;
  bool flag_expected = true;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    const char letter = text[i];
    if (letter == ' ') continue;
    if (flag_expected ? letter != '0' && letter != '1' : letter != ',') return std::nullopt;
    if (flag_expected) flags.push_back(letter == '1');
    flag_expected = !flag_expected;
  }
  if (flag_expected && !flags.empty()) return std::nullopt;
  return flags;
}

[[noreturn]] void Refuse(const std::string& kernel, const std::string& why) {
  throw Error(ErrorKind::kRuntime, Concat("The kernel ", kernel, " cannot be used: ", why,
                                          " It was compiled by another version of TVM, or the "
                                          "library is damaged; compile it again."));
}

}  // namespace

bool ParameterType::is_buffer() const { return code == kOpaqueHandle; }

LaunchSpec ParseLaunchSpec(const std::string& kernel, const std::vector<ParameterType>& parameters,
                           const std::vector<std::string>& tags) {
  LaunchSpec spec;
  spec.parameters = parameters.size();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].is_buffer()) {
      spec.buffers.push_back(i);
    } else {
      spec.scalars.push_back(i);
      spec.scalar_types.push_back(parameters[i]);
    }
  }
  for (const std::string& tag : tags) {
    if (const auto block = ParseAxis(tag, "blockIdx.", 0)) {
      spec.axes.push_back(*block);
    } else if (const auto thread = ParseAxis(tag, "threadIdx.", 3)) {
      spec.axes.push_back(*thread);
    } else if (StartsWith(tag, kWriteAccess)) {
      const auto flags = ParseFlags(tag.substr(sizeof(kWriteAccess) - 1));
      if (!flags) Refuse(kernel, Concat("its tag '", tag, "' is malformed."));
      spec.writable = *flags;
    } else {
      Refuse(kernel, Concat("its launch tag '", tag, "' is unknown."));
    }
  }
  if (spec.writable.size() != spec.buffers.size()) {
    Refuse(kernel, Concat("it has ", spec.buffers.size(), " buffers and access flags for ",
                          spec.writable.size(), "."));
  }
  return spec;
}

}  // namespace mlc_llm_vulkan
