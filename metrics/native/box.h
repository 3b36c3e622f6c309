// Corner-form boxes and their overlap.
#pragma once

#include <algorithm>

namespace ovd {

struct Box {
  double x1, y1, x2, y2;
};

inline double area(const Box& b) { return (b.x2 - b.x1) * (b.y2 - b.y1); }

// 0 without overlap in x or y. The areas are handed in because callers compare one box with many.
inline double iou(const Box& a, double area_a, const Box& b, double area_b) {
  const double w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const double h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(w > 0 && h > 0)) return 0.0;
  const double intersection = w * h;
  return intersection / (area_a + area_b - intersection);
}

}  // namespace ovd
