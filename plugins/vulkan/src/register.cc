/*!
 * \file register.cc
 * \brief Gives TVM its Vulkan devices, and Python the functions that describe them.
 */
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/reflection/registry.h>

#include <string>

#include "adapters.h"
#include "boundary.h"
#include "context.h"
#include "device_api.h"
#include "wgsl_module.h"

#ifdef _WIN32
#define MLC_LLM_VULKAN_EXPORT extern "C" __declspec(dllexport)
#else
#define MLC_LLM_VULKAN_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace mlc_llm_vulkan {
namespace {

namespace ffi = tvm::ffi;

void Register() {
  tvm::ffi::reflection::GlobalDef()
      .def_packed(
          "device_api.vulkan",
          [](ffi::PackedArgs, ffi::Any* api) { *api = static_cast<void*>(VulkanDeviceApi()); })
      .def("ffi.Module.load_from_bytes.webgpu", LoadWgslModule)
      .def("device_api.vulkan.get_target_property",
           [](DLDevice device, const std::string& name) {
             ffi::Any value;
             VulkanDeviceApi()->GetTargetProperty(device, name, &value);
             return value;
           })
      .def("mlc_llm_vulkan.adapters",
           [] { return AtBoundary([] { return ffi::String(AdaptersJson()); }); })
      .def("mlc_llm_vulkan.stats",
           [](int index) {
             return AtBoundary([&] { return ffi::String(Context::Get(index).StatsJson()); });
           })
      .def("mlc_llm_vulkan.build", BuildModule)
      .def("mlc_llm_vulkan.give_up", [](int index, bool in_submission) {
        AtBoundary([&] { Context::Get(index).Destroy(in_submission); });
      });
}

}  // namespace
}  // namespace mlc_llm_vulkan

/*!
 * \brief Register everything with TVM's registry of global functions.
 *
 * This is a function to call, and not done while the library is loaded, so that a failure is an
 * answer and does not end the process.
 *
 * \param wgpu_path The file of wgpu-native, in UTF-8; opened when a device is first asked for.
 * \return Null, or why it failed; the text stays valid.
 */
MLC_LLM_VULKAN_EXPORT const char* mlc_llm_vulkan_register(const char* wgpu_path) {
  static std::string problem;
  try {
    mlc_llm_vulkan::SetWgpuPath(wgpu_path);
    mlc_llm_vulkan::Register();
    return nullptr;
  } catch (const std::exception& error) {
    problem = error.what();
    return problem.c_str();
  }
}
