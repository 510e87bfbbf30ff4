/*!
 * \file panic_guard.h
 * \brief Turns panics of wgpu-native into errors.
 *
 * wgpu-native reports most errors to callbacks, but panics for some, above all when the driver says
 * that the device is lost while commands are handed over. A panic would end the process as soon as
 * it unwound wgpu-native's own function. So it is caught before that: the system's unwinder first
 * searches for a handler without unwinding anything, and the guard leaves during that search.
 *
 * What wgpu-native held then, such as locks, it holds for good. So no call is made after a panic.
 */
#ifndef MLC_LLM_VULKAN_PANIC_GUARD_H_
#define MLC_LLM_VULKAN_PANIC_GUARD_H_

#include <type_traits>

namespace mlc_llm_vulkan {

/*! \brief Whether wgpu-native has panicked, and must not be called any more. */
bool WgpuHasPanicked();

/*!
 * \brief Call a function that calls wgpu-native and nothing else with an effect.
 *
 * In a panic the function's own objects are not destroyed. On platforms other than Linux and the
 * like (ELF) on x86-64 and AArch64, a panic still ends the process.
 *
 * \param what What is being done, for the error.
 * \throws Error wgpu-native panics, or has panicked before.
 */
void CallGuarded(const char* what, void (*function)(void*), void* argument);

/*!
 * \brief Call wgpu-native as CallGuarded does.
 * \param what What is being done, for the error.
 * \param call The calls; what it returns is returned.
 */
template <typename Call>
auto Guarded(const char* what, Call call) -> decltype(call()) {
  using Result = decltype(call());
  if constexpr (std::is_void_v<Result>) {
    CallGuarded(
        what, [](void* argument) { (*static_cast<Call*>(argument))(); }, &call);
  } else {
    Result result{};
    auto keep = [&] { result = call(); };
    Guarded(what, keep);
    return result;
  }
}

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_PANIC_GUARD_H_
