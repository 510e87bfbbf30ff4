// Atomic operations: nothing comes between, since threads take turns elsewhere. They are announced
// as atomic, and not as the plain accesses that they are here.
#pragma once

extern "C" void gpu_access(const volatile void* address, size_t bytes, int kind);

template <class T, class Change>
__attribute__((no_sanitize("thread"))) inline T gpu_atomically(T* address, Change change) {
  constexpr int kAtomic = 2;
  if (GPU_CHECKED) gpu_access(address, sizeof(T), kAtomic);
  T before = *address;
  *address = change(before);
  return before;
}

template <class T>
inline T atomicAdd(T* address, T value) {
  return gpu_atomically(address, [=](T old) -> T { return old + value; });
}
template <class T>
inline T atomicSub(T* address, T value) {
  return gpu_atomically(address, [=](T old) -> T { return old - value; });
}
template <class T>
inline T atomicMax(T* address, T value) {
  return gpu_atomically(address, [=](T old) { return old > value ? old : value; });
}
template <class T>
inline T atomicMin(T* address, T value) {
  return gpu_atomically(address, [=](T old) { return old < value ? old : value; });
}
template <class T>
inline T atomicAnd(T* address, T value) {
  return gpu_atomically(address, [=](T old) { return old & value; });
}
template <class T>
inline T atomicOr(T* address, T value) {
  return gpu_atomically(address, [=](T old) { return old | value; });
}
template <class T>
inline T atomicExch(T* address, T value) {
  return gpu_atomically(address, [=](T) { return value; });
}
template <class T>
inline T atomicCAS(T* address, T expected, T value) {
  return gpu_atomically(address, [=](T old) { return old == expected ? value : old; });
}
// Counts up to a limit, and begins again at 0.
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return gpu_atomically(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}
