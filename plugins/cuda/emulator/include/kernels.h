// How the driver calls a kernel: GPU_KERNEL stands once for each, after the text.
#pragma once

template <auto Function>
struct GpuCall;

template <class... Arguments, void (*Function)(Arguments...)>
struct GpuCall<Function> {
  static constexpr size_t kBytes[] = {sizeof(Arguments)..., 0};

  // The arguments are the driver's, and no access of the kernel.
  template <size_t... I>
  __attribute__((no_sanitize("thread"))) static void spread(void** arguments,
                                                            std::index_sequence<I...>) {
    Function(*static_cast<std::remove_reference_t<Arguments>*>(arguments[I])...);
  }
  static void call(void** arguments) { spread(arguments, std::index_sequence_for<Arguments...>()); }
  static constexpr size_t kCount = sizeof...(Arguments);
};

// The linker makes these two names of a section. It leaves them null where there is none.
#define GPU_SHARED_SECTION(name)                                              \
  extern "C" unsigned char __start_gpu_shared_##name[] __attribute__((weak)), \
      __stop_gpu_shared_##name[] __attribute__((weak));

GPU_SHARED_SECTION(device_functions)

#define GPU_FOUND_BY_DRIVER extern "C" __attribute__((visibility("default")))

#define GPU_ARCHITECTURE(name)                                  \
  GPU_FOUND_BY_DRIVER const char gpu_architecture[sizeof name]; \
  const char gpu_architecture[sizeof name] = name;

#define GPU_KERNEL(name, threads)                                                           \
  GPU_SHARED_SECTION(name)                                                                  \
  GPU_FOUND_BY_DRIVER void gpu_kernel_##name(GpuKernel* kernel) {                           \
    using Call = GpuCall<::name>;                                                           \
    *kernel = {Call::call,                                                                  \
               Call::kBytes,                                                                \
               Call::kCount,                                                                \
               {{__start_gpu_shared_##name, __stop_gpu_shared_##name},                      \
                {__start_gpu_shared_device_functions, __stop_gpu_shared_device_functions}}, \
               GPU_CHECKED,                                                                 \
               threads};                                                                    \
  }
