/*!
 * \file buffer.h
 * \brief The device's memory behind a tensor.
 */
#ifndef MLC_LLM_VULKAN_BUFFER_H_
#define MLC_LLM_VULKAN_BUFFER_H_

#include <cstdint>
#include <string>

#include "device.h"

namespace mlc_llm_vulkan {

/*! \brief What a tensor's data pointer points to. */
struct Buffer {
  WGPUBuffer handle;
  uint64_t number; /*!< Given once in the process. */
  uint64_t size;   /*!< Bytes asked for. */
  uint64_t room;   /*!< Bytes there are: `size` rounded up, so that whole words can be copied. */
};

/*!
 * \brief Make a buffer of any usage.
 * \param device The device, which is not lost.
 * \param size Bytes; a multiple of 4.
 * \param usage How it is used.
 * \param purpose What it is for, in errors.
 * \throws Error There is no memory for it.
 */
WGPUBuffer CreateBuffer(Device* device, uint64_t size, WGPUBufferUsage usage,
                        const std::string& purpose);

/*!
 * \brief Make a buffer that kernels and copies can use.
 * \param device The device, which is not lost.
 * \param size Bytes; 0 is allowed.
 * \param in_use Bytes that are allocated already, for errors.
 * \throws Error It is larger than the device's buffers can be, or there is no memory for it.
 */
Buffer* AllocateBuffer(Device* device, uint64_t size, uint64_t in_use);

/*! \brief Release a buffer. wgpu-native keeps it while submitted commands use it. */
void FreeBuffer(Buffer* buffer);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_BUFFER_H_
