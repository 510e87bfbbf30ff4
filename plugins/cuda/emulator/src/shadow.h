// Notes about memory: an array that is all zeros at first, and takes memory only where it is used.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace emulator {

template <class T>
class Shadow {
 public:
  Shadow() = default;
  explicit Shadow(size_t count) { reach(count); }
  ~Shadow() { drop(); }
  Shadow(const Shadow&) = delete;

  // Makes it at least so long; what was noted is forgotten if it was shorter.
  void reach(size_t count) {
    if (count <= count_) return;
    drop();
    void* mapped = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    items_ = static_cast<T*>(mapped);
    count_ = count;
  }
  T& operator[](size_t index) { return items_[index]; }

 private:
  void drop() {
    if (count_) munmap(items_, count_ * sizeof(T));
    count_ = 0;
  }

  T* items_ = nullptr;
  size_t count_ = 0;
};

}  // namespace emulator
