#include "panic_guard.h"

#include <atomic>
#include <cstring>

#include "errors.h"

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define MLC_LLM_VULKAN_CATCHES_PANICS 1
#include <setjmp.h>
#include <unwind.h>
#endif

namespace mlc_llm_vulkan {
namespace {

std::atomic<bool> panicked{false};

}  // namespace

bool WgpuHasPanicked() { return panicked.load(std::memory_order_acquire); }

#ifdef MLC_LLM_VULKAN_CATCHES_PANICS

namespace {

/*! \brief What Rust marks its exceptions with: "MOZ\0RUST", in this machine's order of bytes. */
bool IsRustPanic(_Unwind_Exception_Class kind) {
  static_assert(sizeof(kind) == 8, "a class is eight letters");
  return std::memcmp(&kind, "MOZ\0RUST", sizeof(kind)) == 0;
}

/*! \brief Where the innermost guarded call of this thread is left to. */
thread_local jmp_buf* innermost = nullptr;

/*! \brief Sets the innermost guard while it lives. */
class InnermostGuard {
 public:
  explicit InnermostGuard(jmp_buf* jump) : outer_(innermost) { innermost = jump; }
  ~InnermostGuard() { innermost = outer_; }
  InnermostGuard(const InnermostGuard&) = delete;
  InnermostGuard& operator=(const InnermostGuard&) = delete;

 private:
  jmp_buf* outer_;
};

}  // namespace

extern "C" {

/*!
 * \brief Called by the unwinder when an exception reaches mlc_llm_vulkan_call.
 *
 * A panic is left here, in the search for a handler. All else passes.
 */
__attribute__((visibility("hidden"), used)) _Unwind_Reason_Code mlc_llm_vulkan_personality(
    int, _Unwind_Action actions, _Unwind_Exception_Class kind, _Unwind_Exception*,
    _Unwind_Context*) {
  if ((actions & _UA_SEARCH_PHASE) != 0 && IsRustPanic(kind) && innermost != nullptr) {
    longjmp(*innermost, 1);
  }
  return _URC_CONTINUE_UNWIND;
}

/*! \brief Calls a function with an argument, as a frame with the personality above. */
__attribute__((visibility("hidden"))) void mlc_llm_vulkan_call(void (*function)(void*),
                                                               void* argument);
}

#ifdef __x86_64__
asm(R"(
  .text
  .globl mlc_llm_vulkan_call
  .type mlc_llm_vulkan_call, %function
mlc_llm_vulkan_call:
  .cfi_startproc
  .cfi_personality 0x1b, mlc_llm_vulkan_personality
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  movq %rdi, %rax
  movq %rsi, %rdi
  call *%rax
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
  .size mlc_llm_vulkan_call, .-mlc_llm_vulkan_call
)");
#else
asm(R"(
  .text
  .globl mlc_llm_vulkan_call
  .type mlc_llm_vulkan_call, %function
mlc_llm_vulkan_call:
  .cfi_startproc
  .cfi_personality 0x1b, mlc_llm_vulkan_personality
  stp x29, x30, [sp, #-16]!
  .cfi_adjust_cfa_offset 16
  .cfi_offset x29, -16
  .cfi_offset x30, -8
  mov x2, x0
  mov x0, x1
  blr x2
  ldp x29, x30, [sp], #16
  .cfi_adjust_cfa_offset -16
  .cfi_restore x29
  .cfi_restore x30
  ret
  .cfi_endproc
  .size mlc_llm_vulkan_call, .-mlc_llm_vulkan_call
)");
#endif

#endif

void CallGuarded(const char* what, void (*function)(void*), void* argument) {
  if (WgpuHasPanicked()) {
    throw Error(ErrorKind::kRuntime, "wgpu-native has failed before; start the program again.");
  }
#ifdef MLC_LLM_VULKAN_CATCHES_PANICS
  jmp_buf jump;
  InnermostGuard guard(&jump);
  if (setjmp(jump) == 0) {
    mlc_llm_vulkan_call(function, argument);
    return;
  }
  panicked.store(true, std::memory_order_release);
  throw Error(ErrorKind::kRuntime, Concat("wgpu-native failed while ", what, '.'));
#else
  static_cast<void>(what);
  function(argument);
#endif
}

}  // namespace mlc_llm_vulkan
