/*!
 * \file testing.h
 * \brief What a test needs: TEST, CHECK, CHECK_EQUAL and CHECK_ERROR.
 */
#ifndef MLC_LLM_VULKAN_TESTS_TESTING_H_
#define MLC_LLM_VULKAN_TESTS_TESTING_H_

#include <string>
#include <vector>

#include "errors.h"

namespace testing {

/*! \brief A test and its name. */
struct Test {
  const char* name;
  void (*run)();
};

/*! \brief All tests; each adds itself. */
std::vector<Test>& Tests();

/*! \brief Adds a test when the program starts. */
struct Registration {
  Registration(const char* name, void (*run)()) { Tests().push_back({name, run}); }
};

/*! \brief Note a failure and go on. */
void Fail(const char* file, int line, const std::string& what);

}  // namespace testing

#define TEST(name)                                                        \
  static void name();                                                     \
  static const testing::Registration registration_of_##name(#name, name); \
  static void name()

#define CHECK(condition) \
  if (!(condition)) testing::Fail(__FILE__, __LINE__, #condition)

#define CHECK_EQUAL(left, right)                                                                 \
  do {                                                                                           \
    const auto left_value = left;                                                                \
    const auto right_value = right;                                                              \
    if (!(left_value == right_value)) {                                                          \
      testing::Fail(__FILE__, __LINE__,                                                          \
                    mlc_llm_vulkan::Concat(#left " is ", left_value, " and not ", right_value)); \
    }                                                                                            \
  } while (false)

/*! \brief Check that an expression throws an Error whose text contains a part. */
#define CHECK_ERROR(expression, part)                                                            \
  do {                                                                                           \
    std::string message = "no error";                                                            \
    try {                                                                                        \
      (void)(expression);                                                                        \
    } catch (const mlc_llm_vulkan::Error& error) {                                               \
      message = error.what();                                                                    \
    }                                                                                            \
    if (message.find(part) == std::string::npos) {                                               \
      testing::Fail(__FILE__, __LINE__,                                                          \
                    #expression " gives '" + message + "' without '" + std::string(part) + "'"); \
    }                                                                                            \
  } while (false)

#endif  // MLC_LLM_VULKAN_TESTS_TESTING_H_
