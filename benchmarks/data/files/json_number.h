// Numbers of JSON text: a strict scanner and exact conversion to double and int64.
//
// The value is rounded as by a correctly rounding strtod (Python's float): small mantissas by one exact double
// operation (Clinger, "How to read floating point numbers accurately", 1990), mantissas up to 64 bits by one 80-bit
// operation whose dropped bits are checked, everything else by the C library.
#pragma once

#include <locale.h>
#include <stdlib.h>

#include <cmath>
#include <cstdint>
#include <cstring>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "eight characters at a time are read in little-endian order");

namespace json {

struct Decimal {
  const char* begin;          // first character of the literal
  std::uint64_t mantissa;     // all digits, exact while significant <= 19
  std::int64_t significant;   // digits without leading zeros, counted exactly only beyond 19
  std::int64_t exponent;      // value = mantissa * 10^exponent
  bool negative;
  bool integer_literal;       // neither fraction nor exponent
};

inline std::uint64_t load8(const char* p) {
  std::uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Adds the run of digits at p to the mantissa (modulo 2^64) and moves p past it.
inline void scan_digits(const char*& p, std::uint64_t& mantissa) {
  static constexpr std::uint64_t kPow10[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
  for (;;) {
    std::uint64_t v = load8(p) ^ 0x3030303030303030u;  // digits become 0 … 9
    const std::uint64_t other = (v | (v + 0x7676767676767676u)) & 0x8080808080808080u;
    const int n = other ? __builtin_ctzll(other) >> 3 : 8;
    if (n == 0) return;
    v <<= 64 - 8 * n;  // leading zeros make it eight digits; n >= 1, so the shift is defined
    v = (v * 10 + (v >> 8)) & 0x00ff00ff00ff00ffu;
    v = (v * 100 + (v >> 16)) & 0x0000ffff0000ffffu;
    v = (v * 10000 + (v >> 32)) & 0x00000000ffffffffu;
    mantissa = mantissa * kPow10[n] + v;
    p += n;
    if (n < 8) return;
  }
}

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Scans one literal of the JSON grammar. False: p is at the offending character.
inline bool scan_number(const char*& p, Decimal& d) {
  d.begin = p;
  d.negative = *p == '-';
  p += d.negative;
  const char* first = p;
  if (!is_digit(*p)) return false;
  d.mantissa = 0;
  scan_digits(p, d.mantissa);
  if (*first == '0' && p - first > 1) {
    p = first + 1;
    return false;
  }
  d.significant = p - first;
  d.exponent = 0;
  d.integer_literal = true;
  if (*p == '.') {
    const char* fraction = ++p;
    if (!is_digit(*p)) return false;
    scan_digits(p, d.mantissa);
    d.exponent = fraction - p;
    d.significant += p - fraction;
    d.integer_literal = false;
  }
  if (d.significant > 19) {
    for (const char* q = first; *q == '0' || *q == '.'; ++q) d.significant -= *q == '0';
  }
  if ((*p | 0x20) == 'e') {
    ++p;
    const bool minus = *p == '-';
    p += *p == '-' || *p == '+';
    if (!is_digit(*p)) return false;
    std::int64_t e = 0;
    for (; is_digit(*p); ++p) e = e < 100000000 ? 10 * e + (*p - '0') : e;
    d.exponent += minus ? -e : e;
    d.integer_literal = false;
  }
  return true;
}

// The C library's correctly rounding conversion, whatever the process's locale.
inline double convert_slowly(const Decimal& d) {
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(d.begin, nullptr, c_locale);
}

inline double to_double(const Decimal& d) {
  static constexpr double kPow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                               1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (d.significant > 19) return convert_slowly(d);
  double value;
  if (d.exponent == 0) {
    if (d.integer_literal && d.mantissa == 0) return 0.0;  // the integer -0 is 0
    value = static_cast<double>(d.mantissa);
  } else if (d.mantissa <= (std::uint64_t{1} << 53) && d.exponent >= -22 && d.exponent <= 22) {
    value = static_cast<double>(d.mantissa);
    value = d.exponent < 0 ? value / kPow10[-d.exponent] : value * kPow10[d.exponent];
#if defined(__x86_64__)
  } else if (d.exponent >= -27 && d.exponent <= 27) {
    // Mantissa and power are exact in 64 bits, so q is the true value rounded once. Rounding q again to 53 bits differs
    // from rounding the true value only if the 11 bits then dropped look like exactly one half.
    static constexpr long double kLongPow10[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                          1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                          1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    const long double m = static_cast<long double>(d.mantissa);
    const long double q = d.exponent < 0 ? m / kLongPow10[-d.exponent] : m * kLongPow10[d.exponent];
    std::uint64_t bits;
    std::memcpy(&bits, &q, sizeof bits);
    if ((bits & 0x7ff) == 0x400) return convert_slowly(d);
    value = static_cast<double>(q);
#endif
  } else {
    return convert_slowly(d);
  }
  return d.negative ? -value : value;
}

// Integer literals within int64 and integral floats up to 2^53, beyond which a float does not name one integer.
inline bool to_int64(const Decimal& d, std::int64_t& value) {
  if (d.integer_literal) {
    const std::uint64_t limit = (std::uint64_t{1} << 63) - !d.negative;
    if (d.significant > 19 || d.mantissa > limit) return false;
    value = static_cast<std::int64_t>(d.negative ? 0 - d.mantissa : d.mantissa);
    return true;
  }
  const double v = to_double(d);
  if (!(std::fabs(v) <= 9007199254740992.0) || v != std::trunc(v)) return false;
  value = static_cast<std::int64_t>(v);
  return true;
}

}  // namespace json
