// Box primitives over a whole data set: IoU, greedy NMS, greedy matching, best overlap.
// Rows are bucketed by image with a stable counting sort. Each image is then processed by one thread, so the result
// does not depend on the number of threads. Boxes are xyxy float64.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "box.h"

namespace {

using ovd::Box;
using ovd::area;
using ovd::iou;

// Rows of every image in input order: image i owns rows[offsets[i] .. offsets[i + 1]).
struct Buckets {
  std::vector<int64_t> offsets, rows;

  Buckets(int64_t n, const int32_t* image, int64_t images) : offsets(images + 1, 0), rows(n) {
    for (int64_t r = 0; r < n; ++r) ++offsets[image[r] + 1];
    for (int64_t i = 0; i < images; ++i) offsets[i + 1] += offsets[i];
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    for (int64_t r = 0; r < n; ++r) rows[next[image[r]]++] = r;
  }
};

template <class Work>  // Work: called once per thread, returns a functor that is called with image numbers
void for_each_image(int64_t images, int32_t threads, const Work& work) {
  constexpr int64_t kChunk = 16;
  std::atomic<int64_t> next{0};
  auto loop = [&] {
    auto visit = work();
    for (int64_t begin; (begin = next.fetch_add(kChunk)) < images;)
      for (int64_t i = begin; i < std::min(begin + kChunk, images); ++i) visit(i);
  };
  std::vector<std::thread> pool;
  for (int32_t t = 1; t < std::min<int64_t>(threads, images / kChunk + 1); ++t) pool.emplace_back(loop);
  loop();
  for (auto& thread : pool) thread.join();
}

// Group of a row; all rows are of group 0 when there are no groups.
inline int32_t group_of(const int32_t* group, int64_t row) { return group ? group[row] : 0; }

// Order the rows of one image by group, score descending, row.
void sort_by_group_and_score(int64_t* begin, int64_t* end, const int32_t* group, const double* score) {
  std::sort(begin, end, [&](int64_t a, int64_t b) {
    if (group && group[a] != group[b]) return group[a] < group[b];
    if (score[a] != score[b]) return score[a] > score[b];
    return a < b;
  });
}

// Boxes of one run as columns, so that the compiler vectorises the inner loop of NMS.
struct NmsScratch {
  std::vector<double> x1, y1, x2, y2, area;
  std::vector<uint8_t> removed;

  void gather(const Box* boxes, const int64_t* rows, size_t n) {
    for (auto* column : {&x1, &y1, &x2, &y2, &area}) column->resize(n);
    removed.assign(n, 0);
    for (size_t i = 0; i < n; ++i) {
      const Box& b = boxes[rows[i]];
      x1[i] = b.x1, y1[i] = b.y1, x2[i] = b.x2, y2[i] = b.y2, area[i] = ::area(b);
    }
  }

  void suppress_after(size_t i, size_t n, double threshold) {
    const Box a{x1[i], y1[i], x2[i], y2[i]};
    for (size_t j = i + 1; j < n; ++j)
      removed[j] |= iou(a, area[i], Box{x1[j], y1[j], x2[j], y2[j]}, area[j]) > threshold;
  }
};

}  // namespace

extern "C" {

void ovd_box_iou(int64_t n, const Box* a, int64_t m, const Box* b, double* out) {
  for (int64_t i = 0; i < n; ++i) {
    const double area_a = area(a[i]);
    for (int64_t j = 0; j < m; ++j) out[i * m + j] = iou(a[i], area_a, b[j], area(b[j]));
  }
}

void ovd_nms(int64_t n, int64_t images, const int32_t* image, const int32_t* group, const Box* boxes,
             const double* score, double threshold, int32_t threads, uint8_t* keep) {
  Buckets buckets(n, image, images);
  for_each_image(images, threads, [&] {
    return [&, scratch = NmsScratch()](int64_t i) mutable {
      int64_t* begin = buckets.rows.data() + buckets.offsets[i];
      int64_t* const end = buckets.rows.data() + buckets.offsets[i + 1];
      sort_by_group_and_score(begin, end, group, score);
      while (begin < end) {
        int64_t* stop = begin;
        while (stop < end && group_of(group, *stop) == group_of(group, *begin)) ++stop;
        const size_t size = stop - begin;
        scratch.gather(boxes, begin, size);
        for (size_t k = 0; k < size; ++k) {
          keep[begin[k]] = !scratch.removed[k];
          if (!scratch.removed[k]) scratch.suppress_after(k, size, threshold);
        }
        begin = stop;
      }
    };
  });
}

void ovd_match_greedy(int64_t n_gt, int64_t n_dt, int64_t images, const int32_t* gt_image, const int32_t* gt_group,
                      const Box* gt_boxes, const int32_t* dt_image, const int32_t* dt_group, const Box* dt_boxes,
                      const double* dt_score, double threshold, int32_t threads, int64_t* match) {
  Buckets gt(n_gt, gt_image, images), dt(n_dt, dt_image, images);
  std::vector<uint8_t> taken(n_gt, 0);
  for_each_image(images, threads, [&] {
    return [&](int64_t i) {
      int64_t* const gt_begin = gt.rows.data() + gt.offsets[i];
      int64_t* const gt_end = gt.rows.data() + gt.offsets[i + 1];
      int64_t* const dt_begin = dt.rows.data() + dt.offsets[i];
      int64_t* const dt_end = dt.rows.data() + dt.offsets[i + 1];
      std::stable_sort(gt_begin, gt_end,
                       [&](int64_t a, int64_t b) { return group_of(gt_group, a) < group_of(gt_group, b); });
      sort_by_group_and_score(dt_begin, dt_end, dt_group, dt_score);
      int64_t *first = gt_begin, *last = gt_begin;  // ground truth of the current detection's group
      for (const int64_t* d = dt_begin; d < dt_end; ++d) {
        const int32_t group = group_of(dt_group, *d);
        while (first < gt_end && group_of(gt_group, *first) < group) ++first;
        for (last = std::max(last, first); last < gt_end && group_of(gt_group, *last) == group;) ++last;
        const double dt_area = area(dt_boxes[*d]);
        double best = threshold;
        match[*d] = -1;
        for (const int64_t* g = first; g < last; ++g) {
          if (taken[*g]) continue;
          const double overlap = iou(dt_boxes[*d], dt_area, gt_boxes[*g], area(gt_boxes[*g]));
          if (overlap < best) continue;
          best = overlap;
          match[*d] = *g;
        }
        if (match[*d] >= 0) taken[match[*d]] = 1;
      }
    };
  });
}

void ovd_max_iou(int64_t n_gt, int64_t n_dt, int64_t images, const int32_t* gt_image, const Box* gt_boxes,
                 const int32_t* dt_image, const Box* dt_boxes, int32_t threads, double* best, int64_t* best_row) {
  const Buckets gt(n_gt, gt_image, images), dt(n_dt, dt_image, images);
  for_each_image(images, threads, [&] {
    return [&](int64_t i) {
      for (int64_t k = dt.offsets[i]; k < dt.offsets[i + 1]; ++k) {
        const int64_t d = dt.rows[k];
        const double dt_area = area(dt_boxes[d]);
        best[d] = 0.0;
        best_row[d] = -1;
        for (int64_t m = gt.offsets[i]; m < gt.offsets[i + 1]; ++m) {
          const int64_t g = gt.rows[m];
          const double overlap = iou(dt_boxes[d], dt_area, gt_boxes[g], area(gt_boxes[g]));
          if (overlap <= 0.0 || overlap < best[d]) continue;
          best[d] = overlap;
          best_row[d] = g;
        }
      }
    };
  });
}

}  // extern "C"
