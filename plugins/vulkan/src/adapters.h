/*!
 * \file adapters.h
 * \brief The process's wgpu-native instance and the adapters (physical devices) it finds.
 */
#ifndef MLC_LLM_VULKAN_ADAPTERS_H_
#define MLC_LLM_VULKAN_ADAPTERS_H_

#include <string>
#include <vector>

#include "wgpu_api.h"

namespace mlc_llm_vulkan {

/*! \brief An adapter and what it can do. */
struct Adapter {
  WGPUAdapter handle = nullptr;
  std::string name;
  std::string type; /*!< discrete, integrated, cpu or other. */
  std::string driver;
  std::string driver_info;
  uint32_t vendor_id = 0;
  uint32_t device_id = 0;
  uint32_t subgroup_min = 0; /*!< 0 when there are no subgroups. */
  uint32_t subgroup_max = 0;
  WGPULimits limits{};
  bool shader_f16 = false;
  bool shader_int64 = false;
  bool subgroups = false;
  bool subgroup_barrier = false;
};

/*!
 * \brief Say where wgpu-native is; it is opened when an adapter is first asked for.
 * \param path The library's file.
 */
void SetWgpuPath(const std::string& path);

/*!
 * \brief The adapters that the Vulkan loader knows, GPUs first. Found once; no device is opened.
 *
 * The list is empty where there is no loader or no driver.
 *
 * \throws Error wgpu-native cannot be opened.
 */
const std::vector<Adapter>& Adapters();

/*! \brief The adapters as a JSON list. */
std::string AdaptersJson();

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_ADAPTERS_H_
