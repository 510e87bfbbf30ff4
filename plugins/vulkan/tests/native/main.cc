/*!
 * \file main.cc
 * \brief Runs every test, or those whose names contain the first argument.
 */
#include <cstdio>
#include <exception>

#include "testing.h"

namespace testing {
namespace {

int failures = 0;

}  // namespace

std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

void Fail(const char* file, int line, const std::string& what) {
  ++failures;
  std::printf("%s:%d: %s\n", file, line, what.c_str());
}

}  // namespace testing

int main(int count, char** arguments) {
  const std::string wanted = count > 1 ? arguments[1] : "";
  int ran = 0;
  for (const testing::Test& test : testing::Tests()) {
    if (std::string(test.name).find(wanted) == std::string::npos) continue;
    ++ran;
    try {
      test.run();
    } catch (const std::exception& error) {
      testing::Fail(test.name, 0, error.what());
    }
  }
  std::printf("%d tests, %d failures\n", ran, testing::failures);
  return testing::failures > 0 || ran == 0 ? 1 : 0;
}
