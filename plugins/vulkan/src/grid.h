/*!
 * \file grid.h
 * \brief Launch grids, and how one that is too wide for WebGPU is folded.
 */
#ifndef MLC_LLM_VULKAN_GRID_H_
#define MLC_LLM_VULKAN_GRID_H_

#include <cstdint>
#include <string>

namespace mlc_llm_vulkan {

/*! \brief Numbers of workgroups in each dimension, as they are dispatched. */
struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;

  bool empty() const { return x == 0 || y == 0 || z == 0; }
};

/*!
 * \brief Fold the x dimension of a grid into z, so that each dimension is within the limit.
 *
 * TVM's WGSL computes blockIdx.x as `workgroup.z * num_workgroups.x + workgroup.x` and returns when
 * that is above its uniform `packGridDimX`, so that surplus workgroups do nothing. Kernels that use
 * blockIdx.z have a grid that must not be folded.
 *
 * \param x, y, z The extents of blockIdx.x, y and z. Not negative.
 * \param limit The largest extent that the device takes in a dimension.
 * \param kernel The kernel's name, for errors.
 * \throws Error A dimension is negative, or over the limit and cannot be folded.
 */
Grid FoldGrid(int64_t x, int64_t y, int64_t z, uint32_t limit, const std::string& kernel);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_GRID_H_
