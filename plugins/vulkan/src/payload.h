/*!
 * \file payload.h
 * \brief Reads the kernels that TVM's WebGPU code generator puts into a library.
 *
 * All numbers are little-endian; counts and lengths have 64 bits. The payload is a table of
 * function records (key, name, parameter dtypes, launch tags, extra numbers), then a table of their
 * WGSL by key.
 */
#ifndef MLC_LLM_VULKAN_PAYLOAD_H_
#define MLC_LLM_VULKAN_PAYLOAD_H_

#include <string_view>
#include <vector>

#include "kernel_source.h"

namespace mlc_llm_vulkan {

/*!
 * \brief Parse a payload.
 * \throws Error It ends early, has counts that it cannot hold, or its tables do not match.
 */
std::vector<KernelSource> ParsePayload(std::string_view bytes);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_PAYLOAD_H_
