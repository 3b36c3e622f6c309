// Objects with known fields: dispatch on keys, values of the expected type, and the message when one is missing or
// wrong. A field of the wrong type is recorded, not refused at once, because only the last value of a repeated key
// counts (as in Python); the record is checked when it is complete.
#pragma once

#include <array>
#include <vector>

#include "json_scan.h"

namespace json {

struct Field {
  std::string_view name;       // with its closing quote
  const char* need;            // expected value
  const char* where_from = ""; // message if the field is missing
};

// Number of the field whose key starts at c.p, -1 for an unknown key. Keys spelled with escapes are recognised.
template <const auto& kFields>
bool parse_key(Cursor& c, int& field) {
  const char* begin = c.p;
  if (*begin == '"') {
    field = -1;
    const auto match = [&](const auto& self, auto index) -> bool {
      if constexpr (index() < kFields.size()) {
        constexpr std::string_view name = kFields[index()].name;
        if (std::memcmp(begin + 1, name.data(), name.size()) != 0) {
          return self(self, std::integral_constant<std::size_t, index() + 1>{});
        }
        field = static_cast<int>(index());
        c.p = begin + 1 + name.size();
        return true;
      } else {
        return false;
      }
    };
    if (match(match, std::integral_constant<std::size_t, 0>{})) return true;
  }
  if (!c.string()) return false;
  const std::string_view body(begin + 1, c.p - begin - 2);
  if (body.find('\\') != std::string_view::npos) {
    std::string key;
    unescape(body, key);
    key.push_back('"');
    for (std::size_t i = 0; i < kFields.size(); ++i) {
      if (key == kFields[i].name) field = static_cast<int>(i);
    }
  }
  return true;
}

// An object: value(field) parses the value at c.p of a known field; values of other keys are skipped.
template <const auto& kFields, class Value>
bool parse_object(Cursor& c, Value&& value) {
  if (!c.take('{', "an object")) return false;
  c.space();
  if (*c.p == '}') {
    ++c.p;
    return true;
  }
  for (;;) {
    int field;
    if (!parse_key<kFields>(c, field)) return false;
    c.space();
    if (!c.take(':', "':'")) return false;
    c.space();
    if (field < 0) {
      if (!c.skip_value()) return false;
    } else if (!value(field)) {
      if (!c.problem.empty()) {
        const std::string_view name = kFields[field].name;
        c.problem = "field '" + std::string(name.substr(0, name.size() - 1)) + "': " + c.problem;
      }
      return false;
    }
    c.space();
    if (*c.p != ',') return c.take('}', "',' or '}'");
    ++c.p;
    c.space();
  }
}

// The fields of one record: which were seen, and where the text of an unusable value lies.
template <const auto& kFields>
class Fields {
 public:
  void note(int field, bool usable, const char* text) {
    seen_ |= 1u << field;
    faulty_ = usable ? faulty_ & ~(1u << field) : faulty_ | 1u << field;
    if (!usable) text_[field] = text;
  }

  bool has(int field) const { return seen_ >> field & 1; }

  // True when all required fields are there and every field seen is usable.
  bool complete(Cursor& c, unsigned required) const {
    if (faulty_ == 0 && (seen_ & required) == required) return true;
    for (std::size_t i = 0; i < kFields.size(); ++i) {
      const std::string_view key = kFields[i].name;
      const std::string name = "field '" + std::string(key.substr(0, key.size() - 1)) + "' is ";
      if ((required & ~seen_) >> i & 1) {
        c.problem = name + "missing" + kFields[i].where_from;
        return false;
      }
      if (faulty_ >> i & 1) {
        c.problem = name + excerpt(text_[i], c.p) + ", " + kFields[i].need + " is needed";
        return false;
      }
    }
    return false;
  }

 private:
  // The value that starts at text, on one line and at most 40 bytes of it.
  static std::string excerpt(const char* text, const char* end) {
    Cursor c;
    c.place(text, text, 0, end);
    c.skip_value();
    std::string value(text, c.p);
    if (value.size() > 40) {
      std::size_t cut = 40;
      while ((value[cut] & 0xc0) == 0x80) --cut;  // not inside a character
      value = value.substr(0, cut) + "…";
    }
    for (char& ch : value) ch = static_cast<unsigned char>(ch) < 0x20 ? ' ' : ch;
    return value;
  }

  unsigned seen_ = 0, faulty_ = 0;
  std::array<const char*, kFields.size()> text_;
};

// The readers below return false only for text that is no JSON or that ended. A value of another type is skipped and
// makes `usable` false.

inline bool skip_unusable(Cursor& c, const char* start, bool& usable) {
  usable = false;
  c.p = start;
  return c.skip_value();
}

inline bool read_integer(Cursor& c, std::int64_t low, std::int64_t high, std::int64_t& value, bool& usable) {
  const char* start = c.p;
  Decimal d;
  usable = scan_number(c.p, d) && to_int64(d, value) && value >= low && value <= high;
  return usable || skip_unusable(c, start, usable);
}

inline bool read_number(Cursor& c, double& value, bool& usable) {
  const char* start = c.p;
  Decimal d;
  usable = scan_number(c.p, d) && std::isfinite(value = to_double(d));
  return usable || skip_unusable(c, start, usable);
}

// Larger coordinates are refused, as in metrics/types.py: their products would overflow.
constexpr double kMaxCoordinate = 1e100;

// [x, y, width, height]
inline bool read_box(Cursor& c, double* box, bool& usable) {
  const char* start = c.p;
  usable = false;
  if (*c.p != '[') return skip_unusable(c, start, usable);
  for (int i = 0; i < 4; ++i) {
    ++c.p;
    c.space();
    Decimal d;
    if (!scan_number(c.p, d) || !(std::fabs(box[i] = to_double(d)) < kMaxCoordinate)) return skip_unusable(c, start, usable);
    c.space();
    if (*c.p != (i < 3 ? ',' : ']')) return skip_unusable(c, start, usable);
  }
  ++c.p;
  usable = true;
  return true;
}

// A string; half of a surrogate pair makes it unusable.
inline bool read_text(Cursor& c, std::string& text, bool& usable) {
  const char* start = c.p;
  if (!c.skip_value()) return false;
  usable = *start == '"' && unescape(std::string_view(start + 1, c.p - start - 2), text);
  return true;
}

// A list of integers, appended to values.
inline bool read_integers(Cursor& c, std::vector<std::int64_t>& values, bool& usable) {
  const char* start = c.p;
  usable = *c.p == '[';
  if (!usable) return skip_unusable(c, start, usable);
  ++c.p;
  c.space();
  if (*c.p == ']') {
    ++c.p;
    return true;
  }
  for (;;) {
    Decimal d;
    std::int64_t value;
    if (!scan_number(c.p, d) || !to_int64(d, value)) return skip_unusable(c, start, usable);
    values.push_back(value);
    c.space();
    if (*c.p == ']') break;
    if (*c.p != ',') return skip_unusable(c, start, usable);
    ++c.p;
    c.space();
  }
  ++c.p;
  return true;
}

// Python's truth of any value.
inline bool read_truth(Cursor& c, bool& value) {
  const char* start = c.p;
  if (!c.skip_value()) return false;
  std::string_view text(start, c.p - start);
  Decimal d;
  if (*start == '[' || *start == '{' || *start == '"') {
    const char* inside = start + 1;
    if (*start != '"') inside += text.substr(1).find_first_not_of(" \n\r\t");
    value = inside + 1 < c.p;
  } else {
    value = *start == 't' || (scan_number(start, d) && to_double(d) != 0);
  }
  return true;
}

}  // namespace json
