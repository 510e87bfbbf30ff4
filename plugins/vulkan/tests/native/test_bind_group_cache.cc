#include <set>

#include "bind_group_cache.h"
#include "testing.h"

using mlc_llm_vulkan::BindGroupCache;
using mlc_llm_vulkan::BindGroupKey;
using mlc_llm_vulkan::BindGroupKeyHash;

namespace {

/*! \brief A cache of pointers to ints, and those it has released. */
struct Fixture {
  std::multiset<const int*> released;
  int groups[8] = {};
  BindGroupCache<int*> cache{4, [this](int* group) { released.insert(group); }};
};

TEST(cache_finds_by_layout_and_buffers_in_order) {
  Fixture f;
  f.cache.Insert({1, 10, 11}, &f.groups[0]);
  f.cache.Insert({1, 11, 10}, &f.groups[1]);
  f.cache.Insert({2, 10, 11}, &f.groups[2]);
  CHECK(f.cache.Find({1, 10, 11}) == &f.groups[0]);
  CHECK(f.cache.Find({1, 11, 10}) == &f.groups[1]);
  CHECK(f.cache.Find({2, 10, 11}) == &f.groups[2]);
  CHECK(f.cache.Find({1, 10}) == nullptr);
  CHECK(f.cache.Find({1, 10, 12}) == nullptr);
}

TEST(freed_buffer_takes_its_groups_along) {
  Fixture f;
  f.cache.Insert({1, 10, 11}, &f.groups[0]);
  f.cache.Insert({1, 10, 10}, &f.groups[1]);
  f.cache.Insert({1, 11, 12}, &f.groups[2]);
  f.cache.ForgetBuffer(10);
  CHECK_EQUAL(f.cache.size(), 1u);
  CHECK_EQUAL(f.released.count(&f.groups[0]), 1u);
  CHECK_EQUAL(f.released.count(&f.groups[1]), 1u);
  CHECK(f.cache.Find({1, 11, 12}) == &f.groups[2]);
  f.cache.ForgetBuffer(10);
  f.cache.ForgetBuffer(11);
  f.cache.ForgetBuffer(12);
  CHECK_EQUAL(f.cache.size(), 0u);
  CHECK_EQUAL(f.released.size(), 3u);
}

TEST(layout_number_is_no_buffer) {
  Fixture f;
  f.cache.Insert({7, 10}, &f.groups[0]);
  f.cache.ForgetBuffer(7);
  CHECK_EQUAL(f.cache.size(), 1u);
}

TEST(full_cache_starts_again) {
  Fixture f;
  for (uint64_t i = 0; i < 5; ++i) f.cache.Insert({1, 10 + i}, &f.groups[i]);
  CHECK_EQUAL(f.cache.size(), 1u);
  CHECK_EQUAL(f.released.size(), 4u);
  CHECK(f.cache.Find({1, 14}) == &f.groups[4]);
  f.cache.ForgetBuffer(10);
  CHECK_EQUAL(f.released.size(), 4u);
}

TEST(cache_releases_all_at_its_end) {
  int group = 0;
  int released = 0;
  {
    BindGroupCache<int*> cache(4, [&](int*) { ++released; });
    cache.Insert({1, 2, 3}, &group);
  }
  CHECK_EQUAL(released, 1);
}

TEST(hash_depends_on_order_and_length) {
  const BindGroupKeyHash hash;
  CHECK(hash({1, 2, 3}) != hash({1, 3, 2}));
  CHECK(hash({1, 2}) != hash({1, 2, 0}));
  CHECK(hash({}) != hash({0}));
  std::set<size_t> hashes;
  for (uint64_t a = 0; a < 100; ++a) {
    for (uint64_t b = 0; b < 100; ++b) hashes.insert(hash({a, b}));
  }
  CHECK_EQUAL(hashes.size(), 10000u);
}

}  // namespace
