/*!
 * \file device_api.h
 * \brief TVM's device interface for `tvm.device("vulkan")`.
 */
#ifndef MLC_LLM_VULKAN_DEVICE_API_H_
#define MLC_LLM_VULKAN_DEVICE_API_H_

#include <tvm/runtime/device_api.h>

namespace mlc_llm_vulkan {

/*! \brief The one instance, which lives as long as the process. */
tvm::runtime::DeviceAPI* VulkanDeviceApi();

/*! \brief The device that TVM has set for this thread; kernels are launched on it. */
int CurrentDevice();

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_DEVICE_API_H_
