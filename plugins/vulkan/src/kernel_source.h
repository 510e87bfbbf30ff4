/*!
 * \file kernel_source.h
 * \brief What a compiled library says of a kernel: its code, parameters and launch axes.
 */
#ifndef MLC_LLM_VULKAN_KERNEL_SOURCE_H_
#define MLC_LLM_VULKAN_KERNEL_SOURCE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mlc_llm_vulkan {

/*! \brief The dtype of a kernel's parameter, with DLPack's numbers. */
struct ParameterType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;

  /*! \brief Whether the parameter is a buffer (an opaque handle). */
  bool is_buffer() const;
};

/*! \brief How the arguments of a launch are laid out, from a kernel's parameters and tags. */
struct LaunchSpec {
  /*! \brief Positions of the buffers among the arguments, in the order of their bindings. */
  std::vector<size_t> buffers;
  /*! \brief For each buffer, whether the kernel writes it. */
  std::vector<bool> writable;
  /*! \brief Positions of the scalars among the arguments, in the order of the uniform struct. */
  std::vector<size_t> scalars;
  /*! \brief The types of the scalars. */
  std::vector<ParameterType> scalar_types;
  /*!
   * \brief What the arguments behind the parameters mean: 0 to 2 are blockIdx.x to z, 3 to 5
   * threadIdx.x to z.
   */
  std::vector<size_t> axes;
  /*! \brief Number of parameters: buffers and scalars. */
  size_t parameters = 0;

  /*!
   * \brief Bytes of the kernel's uniform struct: its scalars, and the last valid blockIdx.x.
   */
  uint32_t uniform_bytes() const { return static_cast<uint32_t>(4 * (scalars.size() + 1)); }
};

/*! \brief A kernel of a library. */
struct KernelSource {
  std::string name;  /*!< What the library calls it. */
  std::string entry; /*!< The name of its function in the WGSL. */
  std::string wgsl;
  LaunchSpec spec;
};

/*!
 * \brief Make sense of a kernel's parameters and TVM's launch tags.
 *
 * The tags are `blockIdx.x` and the like, `threadIdx.x` and the like, and
 * `paramWriteAccess:[0,1,...]` with one flag for each buffer.
 *
 * \throws Error A tag is unknown or does not fit the parameters.
 */
LaunchSpec ParseLaunchSpec(const std::string& kernel, const std::vector<ParameterType>& parameters,
                           const std::vector<std::string>& tags);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_KERNEL_SOURCE_H_
