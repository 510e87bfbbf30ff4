#include "text.h"

#include <cstddef>
#include <cstdint>

namespace mlc_llm_vulkan {
namespace {

/*! \brief The first character of bytes, and how many of them it takes: 0 when it is none. */
struct Character {
  uint32_t code;
  size_t size;
};

/*! \brief What a lead byte says: the bits it gives, how many bytes follow, the least code. */
struct Lead {
  uint32_t bits;
  size_t more;
  uint32_t least;
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {byte, 0, 0};
  if ((byte & 0xE0) == 0xC0) return {byte & 0x1Fu, 1, 0x80};
  if ((byte & 0xF0) == 0xE0) return {byte & 0x0Fu, 2, 0x800};
  if ((byte & 0xF8) == 0xF0) return {byte & 0x07u, 3, 0x10000};
  return {0, 0, UINT32_MAX};  // A byte that begins no character.
}

Character ReadCharacter(std::string_view bytes) {
  const Lead lead = ReadLead(static_cast<uint8_t>(bytes[0]));
  uint32_t code = lead.bits;
  if (lead.more >= bytes.size()) return {0, 0};
  for (size_t i = 1; i <= lead.more; ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if ((byte & 0xC0) != 0x80) return {0, 0};
    code = code << 6 | (byte & 0x3Fu);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  // A code below the least is written with more bytes than it needs.
  if (code < lead.least || surrogate || code > 0x10FFFF) return {0, 0};
  return {code, lead.more + 1};
}

bool IsControl(uint32_t code) {
  if (code == '\t' || code == '\n' || code == '\r') return false;
  return code < 0x20 || (code >= 0x7F && code < 0xA0);
}

}  // namespace

bool IsText(std::string_view bytes) {
  while (!bytes.empty()) {
    const Character character = ReadCharacter(bytes);
    if (character.size == 0 || IsControl(character.code)) return false;
    bytes.remove_prefix(character.size);
  }
  return true;
}

}  // namespace mlc_llm_vulkan
