// Growing arrays in separate memory mappings: growth moves pages instead of copying them, unused capacity costs
// nothing, and the finished array is passed to the caller, who unmaps it.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

struct Mapping {
  void* data;
  std::int64_t bytes;  // 0: no mapping
};

template <class T>
class Column {
 public:
  Column() = default;
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;
  ~Column() { clear(); }

  // Room for n more elements after the existing ones.
  T* extend(std::size_t n) {
    const std::size_t needed = (size_ + n) * sizeof(T);
    if (needed > capacity_) remap(std::max({needed, 2 * capacity_, std::size_t{1} << 16}));
    T* begin = data_ + size_;
    size_ += n;
    return begin;
  }

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }

  void clear() {
    if (data_ != nullptr) munmap(data_, capacity_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

  // Passes the mapping to the caller, truncated to its elements.
  Mapping release() {
    if (size_ == 0) clear();
    if (size_ > 0) remap(size_ * sizeof(T));
    const Mapping mapping{data_, static_cast<std::int64_t>(size_ * sizeof(T))};
    data_ = nullptr;
    size_ = capacity_ = 0;
    return mapping;
  }

 private:
  void remap(std::size_t bytes) {
    void* moved = data_ == nullptr
                      ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                      : mremap(data_, capacity_, bytes, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(moved);
    capacity_ = bytes;
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;  // bytes
};
