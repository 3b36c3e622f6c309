// Shared by the translation units of the scoring engine.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace ovd {

constexpr int kAreas = 4;         // all, small, medium, large
constexpr int kThresholds = 10;   // IoU 0.50 … 0.95
constexpr int kRecalls = 101;
constexpr int kLanes = kAreas * kThresholds;  // one bit of a match mask each: area * kThresholds + threshold
constexpr uint64_t kAllLanes = (uint64_t{1} << kLanes) - 1;
constexpr uint64_t kLanesOfArea = (uint64_t{1} << kThresholds) - 1;
constexpr uint64_t kFirstLanes = uint64_t{1} | uint64_t{1} << 10 | uint64_t{1} << 20 | uint64_t{1} << 30;

// Spreads one bit per area to all thresholds of that area.
inline uint64_t lanes_of_areas(uint32_t areas) {
  uint64_t lanes = 0;
  for (int a = 0; a < kAreas; ++a) {
    if (areas >> a & 1) lanes |= kLanesOfArea << (a * kThresholds);
  }
  return lanes;
}

// Runs work(item, thread) for every item below `count`, in any order, on `threads` threads. Items must be independent:
// then the result does not depend on the number of threads.
template <class Work>
void parallel_for(int64_t count, int threads, Work work) {
  if (threads <= 1 || count <= 1) {
    for (int64_t i = 0; i < count; ++i) work(i, 0);
    return;
  }
  std::atomic<int64_t> next{0};
  auto loop = [&](int thread) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) work(i, thread);
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(loop, t);
  loop(0);
  for (auto& thread : pool) thread.join();
}

}  // namespace ovd
