/*!
 * \file json.h
 * \brief Writes flat and nested JSON objects.
 */
#ifndef MLC_LLM_VULKAN_JSON_H_
#define MLC_LLM_VULKAN_JSON_H_

#include <cstdint>
#include <string>

namespace mlc_llm_vulkan {

/*! \brief A text between quotes, escaped. Bytes over 127 are taken to be UTF-8. */
std::string JsonString(const std::string& text);

/*! \brief Builds a JSON object field by field. */
class JsonObject {
 public:
  JsonObject& Number(const std::string& key, uint64_t value) {
    return Raw(key, std::to_string(value));
  }
  JsonObject& Bool(const std::string& key, bool value) {
    return Raw(key, value ? "true" : "false");
  }
  JsonObject& String(const std::string& key, const std::string& value) {
    return Raw(key, JsonString(value));
  }
  /*! \brief A field whose value is JSON already. */
  JsonObject& Raw(const std::string& key, const std::string& json);

  std::string str() const { return '{' + fields_ + '}'; }

 private:
  std::string fields_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_JSON_H_
