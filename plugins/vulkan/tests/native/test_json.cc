#include "json.h"
#include "testing.h"

using mlc_llm_vulkan::JsonObject;
using mlc_llm_vulkan::JsonString;

namespace {

TEST(json_escapes_text) {
  CHECK_EQUAL(JsonString("a\"b\\c"), std::string("\"a\\\"b\\\\c\""));
  CHECK_EQUAL(JsonString("line\nend"), std::string("\"line\\u000aend\""));
  CHECK_EQUAL(JsonString("\xc3\xa4"), std::string("\"\xc3\xa4\""));
}

TEST(json_object) {
  CHECK_EQUAL(JsonObject().str(), std::string("{}"));
  const std::string inner = JsonObject().Bool("yes", true).str();
  const std::string json =
      JsonObject().Number("n", UINT64_MAX).String("s", "t").Raw("o", inner).str();
  CHECK_EQUAL(json,
              std::string("{\"n\": 18446744073709551615, \"s\": \"t\", \"o\": {\"yes\": true}}"));
}

}  // namespace
