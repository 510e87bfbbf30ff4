#include <string>

#include "testing.h"
#include "text.h"

using mlc_llm_vulkan::IsText;

namespace {

TEST(text_is_utf8_without_controls) {
  CHECK(IsText(""));
  CHECK(IsText("fn main() {\n\treturn;\r\n}"));
  CHECK(IsText("// \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80 \xEF\xBF\xBF \xF4\x8F\xBF\xBF"));
}

TEST(every_control_character_is_none) {
  for (int code = 0; code < 0x20; ++code) {
    const auto letter = static_cast<char>(code);
    CHECK_EQUAL(IsText(std::string(1, letter)), letter == '\t' || letter == '\n' || letter == '\r');
  }
  CHECK(!IsText("\x7F"));
  CHECK(!IsText("\xC2\x80"));
  CHECK(!IsText("\xC2\x9F"));
  CHECK(IsText("\xC2\xA0"));
}

TEST(bytes_that_are_no_utf8_are_none) {
  for (const char* bytes :
       {"\x80", "\xC3", "\xC3(", "\xE2\x82", "\xF0\x9F\x98", "\xFF", "\xF8\x88\x80\x80\x80",
        "\xC0\xAF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80"}) {
    CHECK(!IsText(bytes));
    CHECK(!IsText(std::string("a") + bytes + "b"));
  }
}

}  // namespace
