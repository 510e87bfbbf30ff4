/*!
 * \file bind_group_cache.h
 * \brief Bind groups by layout and buffers.
 */
#ifndef MLC_LLM_VULKAN_BIND_GROUP_CACHE_H_
#define MLC_LLM_VULKAN_BIND_GROUP_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace mlc_llm_vulkan {

/*!
 * \brief What a bind group is made of: the number of its layout, then those of its buffers.
 *
 * Numbers are given once and never again, so that a key cannot mean a freed buffer's successor.
 */
using BindGroupKey = std::vector<uint64_t>;

/*! \brief Hashes a key by mixing each number into the whole. */
struct BindGroupKeyHash {
  size_t operator()(const BindGroupKey& key) const {
    uint64_t hash = key.size();
    for (uint64_t number : key) {
      hash = (hash ^ number) * 0x9E3779B97F4A7C15ull;
      hash ^= hash >> 32;
    }
    return static_cast<size_t>(hash);
  }
};

/*!
 * \brief A cache that forgets the bind groups of a buffer when that is freed.
 * \tparam Handle A pointer type, released with the function given.
 */
template <typename Handle>
class BindGroupCache {
 public:
  using Release = std::function<void(Handle)>;

  /*!
   * \param capacity How many bind groups are kept; when there are more, all are forgotten.
   * \param release Called for each bind group that is forgotten.
   */
  BindGroupCache(size_t capacity, Release release)
      : capacity_(capacity), release_(std::move(release)) {}
  BindGroupCache(const BindGroupCache&) = delete;
  BindGroupCache& operator=(const BindGroupCache&) = delete;
  ~BindGroupCache() { Clear(); }

  /*! \brief The bind group of a key, or null. */
  Handle Find(const BindGroupKey& key) const {
    const auto found = groups_.find(key);
    return found == groups_.end() ? Handle{} : found->second;
  }

  /*! \brief Keep a bind group whose key is not there yet. */
  void Insert(const BindGroupKey& key, Handle group) {
    if (groups_.size() >= capacity_) Clear();
    groups_.emplace(key, group);
    for (size_t i = 1; i < key.size(); ++i) keys_of_buffer_[key[i]].insert(key);
  }

  /*! \brief Forget every bind group that holds a buffer. */
  void ForgetBuffer(uint64_t buffer) {
    const auto found = keys_of_buffer_.find(buffer);
    if (found == keys_of_buffer_.end()) return;
    const KeySet keys = std::move(found->second);
    keys_of_buffer_.erase(found);
    for (const BindGroupKey& key : keys) Forget(key, buffer);
  }

  void Clear() {
    for (const auto& entry : groups_) release_(entry.second);
    groups_.clear();
    keys_of_buffer_.clear();
  }

  size_t size() const { return groups_.size(); }

 private:
  using KeySet = std::unordered_set<BindGroupKey, BindGroupKeyHash>;

  void Forget(const BindGroupKey& key, uint64_t freed_buffer) {
    const auto group = groups_.find(key);
    release_(group->second);
    groups_.erase(group);
    for (size_t i = 1; i < key.size(); ++i) {
      if (key[i] == freed_buffer) continue;
      const auto other = keys_of_buffer_.find(key[i]);
      if (other == keys_of_buffer_.end()) continue;
      other->second.erase(key);
      if (other->second.empty()) keys_of_buffer_.erase(other);
    }
  }

  size_t capacity_;
  Release release_;
  std::unordered_map<BindGroupKey, Handle, BindGroupKeyHash> groups_;
  std::unordered_map<uint64_t, KeySet> keys_of_buffer_;
};

}  // namespace mlc_llm_vulkan

#endif  // MLC_LLM_VULKAN_BIND_GROUP_CACHE_H_
