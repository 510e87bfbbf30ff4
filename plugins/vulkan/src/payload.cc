#include "payload.h"

#include <map>
#include <string>
#include <utility>

#include "errors.h"
#include "text.h"

namespace mlc_llm_vulkan {
namespace {

/*! \brief Takes values off the front of bytes, and never reads past their end. */
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes), total_(bytes.size()) {}

  /*! \brief The next unsigned number of the given width, whatever this machine's byte order. */
  uint64_t Number(size_t width) {
    const std::string_view bytes = Take(width);
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
  }

  /*!
   * \brief The number of items that follow.
   * \param item_bytes The least that one of them takes.
   */
  uint64_t Count(size_t item_bytes) {
    const uint64_t count = Number(8);
    if (count > rest_.size() / item_bytes) Truncated(count);
    return count;
  }

  std::string Text() {
    const std::string_view bytes = Take(Count(1));
    if (IsText(bytes)) return std::string(bytes);
    throw Error(ErrorKind::kRuntime,
                Concat("The library's Vulkan kernels are damaged: the text that ends at byte ",
                       position(), " of ", total_,
                       " is not UTF-8, or has control characters. Compile it again."));
  }

  size_t position() const { return total_ - rest_.size(); }
  bool at_end() const { return rest_.empty(); }

 private:
  std::string_view Take(uint64_t size) {
    if (size > rest_.size()) Truncated(size);
    const std::string_view bytes = rest_.substr(0, static_cast<size_t>(size));
    rest_.remove_prefix(static_cast<size_t>(size));
    return bytes;
  }

  [[noreturn]] void Truncated(uint64_t wanted) const {
    throw Error(ErrorKind::kRuntime, Concat("The library's Vulkan kernels are damaged: byte ",
                                            position(), " of ", total_, " announces ", wanted,
                                            " more items than follow. Compile it again."));
  }

  std::string_view rest_;
  size_t total_;
};

/*! \brief A function record, before its code is known. */
struct FunctionRecord {
  std::string entry;
  LaunchSpec spec;
};

ParameterType ReadType(ByteReader* reader) {
  ParameterType type{};
  type.code = static_cast<uint8_t>(reader->Number(1));
  type.bits = static_cast<uint8_t>(reader->Number(1));
  type.lanes = static_cast<uint16_t>(reader->Number(2));
  return type;
}

FunctionRecord ReadRecord(ByteReader* reader, const std::string& key) {
  FunctionRecord record;
  record.entry = reader->Text();
  std::vector<ParameterType> parameters;
  for (uint64_t count = reader->Count(4); count > 0; --count) {
    parameters.push_back(ReadType(reader));
  }
  std::vector<std::string> tags;
  for (uint64_t count = reader->Count(8); count > 0; --count) tags.push_back(reader->Text());
  // Extra arguments that only other backends use.
  for (uint64_t count = reader->Count(4); count > 0; --count) reader->Number(4);
  record.spec = ParseLaunchSpec(key, parameters, tags);
  return record;
}

[[noreturn]] void Refuse(const std::string& why) {
  throw Error(ErrorKind::kRuntime,
              Concat("The library's Vulkan kernels are damaged: ", why, " Compile it again."));
}

}  // namespace

std::vector<KernelSource> ParsePayload(std::string_view bytes) {
  ByteReader reader(bytes);
  std::map<std::string, FunctionRecord> records;
  for (uint64_t count = reader.Count(8); count > 0; --count) {
    std::string key = reader.Text();
    FunctionRecord record = ReadRecord(&reader, key);
    if (!records.emplace(key, std::move(record)).second) Refuse(key + " is there twice.");
  }
  std::vector<KernelSource> kernels;
  for (uint64_t count = reader.Count(16); count > 0; --count) {
    std::string key = reader.Text();
    std::string wgsl = reader.Text();
    const auto found = records.find(key);
    if (found == records.end()) Refuse(key + " has code, but no parameters.");
    kernels.push_back(KernelSource{key, std::move(found->second.entry), std::move(wgsl),
                                   std::move(found->second.spec)});
    records.erase(found);
  }
  if (!records.empty()) Refuse(records.begin()->first + " has no code.");
  if (!reader.at_end()) Refuse(Concat("something follows byte ", reader.position(), "."));
  return kernels;
}

}  // namespace mlc_llm_vulkan
