// A piece of a file in memory, followed by NUL bytes; read with pread, so threads can share the descriptor.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

#include "json_scan.h"

struct Source {
  int descriptor;
  std::int64_t size;
};

class Window {
 public:
  explicit Window(const Source& source) : source_(source) {}

  // Holds bytes [begin, end) of the file, as far as it reaches.
  void load(std::int64_t begin, std::int64_t end) {
    begin_ = std::min(begin, source_.size);
    length_ = 0;
    extend(end - begin_);
  }

  // Reads that many more bytes. False: the window ends at the end of the file.
  bool extend(std::int64_t bytes) {
    bytes = std::min(bytes, source_.size - end_offset());
    if (bytes <= 0) return false;
    const std::int64_t needed = length_ + bytes + json::kPadding;
    if (needed > capacity_) {
      char* moved = static_cast<char*>(std::realloc(data_.get(), needed));
      if (moved == nullptr) throw std::bad_alloc();
      (void)data_.release();
      data_.reset(moved);
      capacity_ = needed;
    }
    while (bytes > 0) {
      const ssize_t n = pread(source_.descriptor, data_.get() + length_, bytes, end_offset());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw std::runtime_error(std::string("cannot be read: ") + std::strerror(errno));
      if (n == 0) throw std::runtime_error("became shorter while it was read");
      length_ += n;
      bytes -= n;
    }
    std::memset(data_.get() + length_, 0, json::kPadding);
    return true;
  }

  // Moves the cursor to a byte of the file inside the window (or just after it).
  void place(json::Cursor& c, std::int64_t offset) const {
    static const char kNothing[json::kPadding] = {};
    const char* text = data_ == nullptr ? kNothing : data_.get();
    c.place(text + (offset - begin_), text, begin_, text + length_);
  }

  const char* text() const { return data_.get(); }
  std::int64_t begin_offset() const { return begin_; }
  std::int64_t end_offset() const { return begin_ + length_; }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };

  Source source_;
  std::unique_ptr<char, Free> data_;
  std::int64_t capacity_ = 0, begin_ = 0, length_ = 0;
};
