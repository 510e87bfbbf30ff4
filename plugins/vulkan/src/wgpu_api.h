/*!
 * \file wgpu_api.h
 * \brief The functions of wgpu-native that are used, taken from its library at run time.
 *
 * The library comes from the PyPI package `wgpu`. It is opened by its path, so that nothing has to
 * be linked, and a machine without it can still load this library.
 */
#ifndef MLC_LLM_VULKAN_WGPU_API_H_
#define MLC_LLM_VULKAN_WGPU_API_H_

#include <string>

#include "wgpu.h"

/*! \brief Applies a macro to each function's name, without its prefix `wgpu`. */
#define MLC_LLM_VULKAN_WGPU_FUNCTIONS(FUNCTION)  \
  FUNCTION(AdapterGetInfo)                       \
  FUNCTION(AdapterGetLimits)                     \
  FUNCTION(AdapterHasFeature)                    \
  FUNCTION(AdapterInfoFreeMembers)               \
  FUNCTION(AdapterRequestDevice)                 \
  FUNCTION(BindGroupLayoutRelease)               \
  FUNCTION(BindGroupRelease)                     \
  FUNCTION(BufferGetConstMappedRange)            \
  FUNCTION(BufferMapAsync)                       \
  FUNCTION(BufferRelease)                        \
  FUNCTION(BufferUnmap)                          \
  FUNCTION(CommandBufferRelease)                 \
  FUNCTION(CommandEncoderBeginComputePass)       \
  FUNCTION(CommandEncoderCopyBufferToBuffer)     \
  FUNCTION(CommandEncoderFinish)                 \
  FUNCTION(CommandEncoderRelease)                \
  FUNCTION(ComputePassEncoderDispatchWorkgroups) \
  FUNCTION(ComputePassEncoderEnd)                \
  FUNCTION(ComputePassEncoderRelease)            \
  FUNCTION(ComputePassEncoderSetBindGroup)       \
  FUNCTION(ComputePassEncoderSetPipeline)        \
  FUNCTION(ComputePipelineRelease)               \
  FUNCTION(CreateInstance)                       \
  FUNCTION(DeviceCreateBindGroup)                \
  FUNCTION(DeviceCreateBindGroupLayout)          \
  FUNCTION(DeviceCreateBuffer)                   \
  FUNCTION(DeviceCreateCommandEncoder)           \
  FUNCTION(DeviceCreateComputePipeline)          \
  FUNCTION(DeviceCreatePipelineLayout)           \
  FUNCTION(DeviceCreateShaderModuleTrusted)      \
  FUNCTION(DeviceDestroy)                        \
  FUNCTION(DeviceGetQueue)                       \
  FUNCTION(DevicePoll)                           \
  FUNCTION(GetVersion)                           \
  FUNCTION(InstanceEnumerateAdapters)            \
  FUNCTION(PipelineLayoutRelease)                \
  FUNCTION(QueueSubmitForIndex)                  \
  FUNCTION(QueueWriteBuffer)                     \
  FUNCTION(SetLogCallback)                       \
  FUNCTION(SetLogLevel)                          \
  FUNCTION(ShaderModuleRelease)

namespace mlc_llm_vulkan {

/*! \brief Pointers to the functions of wgpu-native. */
struct WgpuApi {
#define MLC_LLM_VULKAN_DECLARE(name) decltype(&::wgpu##name) name = nullptr;
  MLC_LLM_VULKAN_WGPU_FUNCTIONS(MLC_LLM_VULKAN_DECLARE)
#undef MLC_LLM_VULKAN_DECLARE
};

/*! \brief The table that all of this library calls; filled by OpenWgpu. */
extern WgpuApi wgpu;

/*!
 * \brief Open wgpu-native and fill the table. The library stays open for good.
 * \param path The library's file.
 * \throws Error It cannot be opened, lacks a function, or is another version than these headers'.
 */
void OpenWgpu(const std::string& path);

/*! \brief The view of a string that outlives the call it is given to. */
inline WGPUStringView View(const std::string& text) { return {text.data(), text.size()}; }

/*! \brief A copy of wgpu-native's string. */
std::string ToString(WGPUStringView view);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_WGPU_API_H_
