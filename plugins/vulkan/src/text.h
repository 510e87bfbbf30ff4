/*!
 * \file text.h
 * \brief Whether bytes are a text that other libraries may be given.
 */
#ifndef MLC_LLM_VULKAN_TEXT_H_
#define MLC_LLM_VULKAN_TEXT_H_

#include <string_view>

namespace mlc_llm_vulkan {

/*!
 * \brief Whether bytes are valid UTF-8 without control characters but tabs and line ends.
 *
 * The shader compiler believes that its texts are UTF-8, and ends the process over some that hold
 * control characters.
 */
bool IsText(std::string_view bytes);

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_TEXT_H_
