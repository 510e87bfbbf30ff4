/*!
 * \file wgsl_module.h
 * \brief The module that TVM loads from a library with WGSL kernels.
 */
#ifndef MLC_LLM_VULKAN_WGSL_MODULE_H_
#define MLC_LLM_VULKAN_WGSL_MODULE_H_

#include <tvm/ffi/extra/module.h>

namespace mlc_llm_vulkan {

/*!
 * \brief Make a module of what TVM's WebGPU code generator has serialised.
 * \throws tvm::ffi::Error The bytes are damaged.
 */
tvm::ffi::Module LoadWgslModule(const tvm::ffi::Bytes& bytes);

/*!
 * \brief Compile the kernels of a module and its imports for a device now.
 * \param module Any module.
 * \param index The device.
 */
void BuildModule(const tvm::ffi::Module& module, int index);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_WGSL_MODULE_H_
