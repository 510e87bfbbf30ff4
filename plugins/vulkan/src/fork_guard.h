/*!
 * \file fork_guard.h
 * \brief Notices that this process was forked from one that had opened Vulkan.
 *
 * A driver's threads and locks do not survive a fork: whatever is called in the child may wait for
 * ever. So the child is told so before anything is called, or any lock of ours is taken.
 */
#ifndef MLC_LLM_VULKAN_FORK_GUARD_H_
#define MLC_LLM_VULKAN_FORK_GUARD_H_

namespace mlc_llm_vulkan {

/*! \brief Begin to notice; to be called before Vulkan is opened. */
void WatchForForks();

/*! \brief Whether Vulkan was opened by the process that this one was forked from. */
bool IsForkedChild();

/*!
 * \brief Refuse to go on in a forked child.
 * \throws Error See IsForkedChild.
 */
void RequireNotForked();

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_FORK_GUARD_H_
