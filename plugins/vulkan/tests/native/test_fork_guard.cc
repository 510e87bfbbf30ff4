#ifndef _WIN32

#include <sys/wait.h>
#include <unistd.h>

#include "fork_guard.h"
#include "testing.h"

using mlc_llm_vulkan::IsForkedChild;
using mlc_llm_vulkan::RequireNotForked;
using mlc_llm_vulkan::WatchForForks;

namespace {

/*! \brief Whether a child process finds that it is one. */
bool ChildSaysSo() {
  const pid_t child = fork();
  if (child == 0) _exit(IsForkedChild() ? 42 : 0);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

TEST(a_fork_is_noticed_once_it_matters) {
  CHECK(!ChildSaysSo());
  WatchForForks();
  WatchForForks();
  CHECK(ChildSaysSo());
  CHECK(!IsForkedChild());
  RequireNotForked();
}

}  // namespace

#endif
