#include "json.h"

#include <cstdio>

namespace mlc_llm_vulkan {

std::string JsonString(const std::string& text) {
  std::string json = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') {
      json += '\\';
      json += letter;
    } else if (static_cast<unsigned char>(letter) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(letter));
      json += escape;
    } else {
      json += letter;
    }
  }
  return json + '"';
}

JsonObject& JsonObject::Raw(const std::string& key, const std::string& json) {
  if (!fields_.empty()) fields_ += ", ";
  fields_ += JsonString(key) + ": " + json;
  return *this;
}

}  // namespace mlc_llm_vulkan
