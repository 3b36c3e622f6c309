// A strict RFC 8259 scanner over a piece of text that 64 NUL bytes follow.
// Every function returns false either because the text is invalid (see Cursor::problem) or because it ended
// (problem is empty and p >= end). NUL does not occur in JSON, so one test in the failing path distinguishes the two
// and the hot loops need no bounds checks.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "json_number.h"

namespace json {

constexpr int kPadding = 64;    // NUL bytes after the text
constexpr int kMaxDepth = 256;  // below the recursion limit of Python's json, which reads the same files

class Cursor {
 public:
  const char* p = nullptr;
  const char* end = nullptr;
  std::string problem;

  void place(const char* position, const char* text, std::int64_t text_offset, const char* text_end) {
    p = position;
    text_ = text;
    text_offset_ = text_offset;
    end = text_end;
    problem.clear();
  }

  std::int64_t offset() const { return text_offset_ + (p - text_); }

  void space() {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
  }

  // Fails: something else was found, or the text ends here.
  bool expected(const char* what) {
    if (p >= end) return false;
    const auto byte = static_cast<unsigned char>(*p);
    std::string found;
    for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
      if (std::strncmp(p, word, std::strlen(word)) == 0) found = std::string(word) + " (which JSON does not know)";
    }
    if (found.empty()) {
      char text[16];
      std::snprintf(text, sizeof text, byte > 0x20 && byte < 0x7f ? "'%c'" : "byte 0x%02x", byte);
      found = text;
    }
    problem = std::string("expected ") + what + ", found " + found + " at byte " + std::to_string(offset());
    return false;
  }

  bool take(char c, const char* what) {
    if (*p != c) return expected(what);
    ++p;
    return true;
  }

  // From the opening quote past the closing one; escapes and UTF-8 are checked.
  bool string() {
    if (!take('"', "'\"'")) return false;
    constexpr std::uint64_t kOnes = 0x0101010101010101u, kHigh = 0x8080808080808080u;
    for (;;) {
      const std::uint64_t v = load8(p);
      const std::uint64_t special =
          (v | (v - kOnes * 0x20) | ((v ^ kOnes * '"') - kOnes) | ((v ^ kOnes * '\\') - kOnes)) & kHigh;
      if (special == 0) {
        p += 8;
        continue;
      }
      p += __builtin_ctzll(special) >> 3;  // a borrow can only flag bytes after the first true one
      if (*p == '"') {
        ++p;
        return true;
      }
      if (!(*p == '\\' ? escape() : utf8())) return false;
    }
  }

  // Any value, without recursion.
  bool skip_value() {
    std::uint64_t objects[kMaxDepth / 64] = {};
    int depth = 0;
    for (;;) {
      const char c = *p;
      if (c == '{' || c == '[') {
        const bool object = c == '{';
        ++p;
        space();
        if (*p != (object ? '}' : ']')) {
          if (depth == kMaxDepth) {
            problem = "nested deeper than " + std::to_string(kMaxDepth) + " levels at byte " + std::to_string(offset());
            return false;
          }
          const std::uint64_t bit = std::uint64_t{1} << (depth % 64);
          objects[depth / 64] = object ? objects[depth / 64] | bit : objects[depth / 64] & ~bit;
          ++depth;
          if (object && !key()) return false;
          continue;
        }
        ++p;
      } else if (c == '"') {
        if (!string()) return false;
      } else if (c == 't' || c == 'f' || c == 'n') {
        if (!literal(c == 't' ? "true" : c == 'f' ? "false" : "null")) return false;
      } else if (!number()) {
        return false;
      }
      for (;;) {  // after a value
        if (depth == 0) return true;
        const bool object = objects[(depth - 1) / 64] >> ((depth - 1) % 64) & 1;
        space();
        if (*p == ',') {
          ++p;
          space();
          if (object && !key()) return false;
          break;
        }
        if (!take(object ? '}' : ']', object ? "',' or '}'" : "',' or ']'")) return false;
        --depth;
      }
    }
  }

 private:
  bool number() {
    const char* start = p;
    Decimal ignored;
    if (scan_number(p, ignored)) return true;
    if (p != start && !(p == start + 1 && *p == 'I')) return expected("a digit");
    p = start;
    return expected("a value");
  }

  bool literal(const char* word) {
    for (const char* w = word; *w; ++w, ++p) {
      if (*p != *w) return expected(word);
    }
    return true;
  }

  bool key() {
    if (!string()) return false;
    space();
    if (!take(':', "':'")) return false;
    space();
    return true;
  }

  bool escape() {
    ++p;
    if (*p == 'u') {
      ++p;
      for (int i = 0; i < 4; ++i, ++p) {
        const char c = *p | 0x20;
        if (!is_digit(*p) && !(c >= 'a' && c <= 'f')) return expected("four hexadecimal digits");
      }
      return true;
    }
    if (*p == '\0' || std::strchr("\"\\/bfnrt", *p) == nullptr) return expected("an escape character");
    ++p;
    return true;
  }

  // One sequence of two to four bytes (Unicode 15, table 3-7), or the failure of a control character.
  bool utf8() {
    const auto lead = static_cast<unsigned char>(*p);
    if (lead < 0x20) return expected("a string without control characters");
    if (lead < 0xc2 || lead > 0xf4) return expected("UTF-8 text");
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    ++p;
    for (int left = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3; left > 0; --left, ++p) {
      const auto byte = static_cast<unsigned char>(*p);
      if (byte < low || byte > high) return expected("UTF-8 text");
      low = 0x80;
      high = 0xbf;
    }
    return true;
  }

  const char* text_ = nullptr;
  std::int64_t text_offset_ = 0;
};

// Text of a checked string body (between the quotes). False: it holds half of a surrogate pair.
inline bool unescape(std::string_view body, std::string& out) {
  out.clear();
  bool whole = true;
  const auto hex = [&](std::size_t at) {
    return static_cast<unsigned>(std::strtoul(std::string(body.substr(at, 4)).c_str(), nullptr, 16));
  };
  for (std::size_t i = 0; i < body.size(); ++i) {
    if (body[i] != '\\') {
      out.push_back(body[i]);
      continue;
    }
    const char c = body[++i];
    if (c != 'u') {
      constexpr std::string_view kNames = "bfnrt", kValues = "\b\f\n\r\t";
      const std::size_t name = kNames.find(c);
      out.push_back(name == std::string_view::npos ? c : kValues[name]);
      continue;
    }
    unsigned code = hex(i + 1);
    i += 4;
    if (code >= 0xd800 && code < 0xe000) {
      const bool pair = code < 0xdc00 && body.substr(i + 1, 2) == "\\u";
      const unsigned low = pair ? hex(i + 3) : 0;
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        i += 6;
      } else {
        whole = false;
      }
    }
    if (code < 0x80) {
      out.push_back(static_cast<char>(code));
      continue;
    }
    const int extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
    out.push_back(static_cast<char>(kLead[extra] | code >> (6 * extra)));
    for (int k = extra - 1; k >= 0; --k) out.push_back(static_cast<char>(0x80 | (code >> (6 * k) & 0x3f)));
  }
  return whole;
}

}  // namespace json
