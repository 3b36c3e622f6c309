// Best one-to-one assignment of detections to ground truth, for every score threshold at once.
// Inside a pair (image, class) detections are processed by descending score. Each is added by one shortest augmenting
// path (the Hungarian method, one row at a time), which gives the assignment of largest total IoU of all detections so
// far. An unassigned detection is assigned to a dummy column of IoU 0 with unlimited capacity. The output is the change
// in true and false positives by each detection, so the sum over the detections of at least some score gives the counts
// at that threshold.

#include <algorithm>
#include <limits>

#include "box.h"
#include "engine.h"

namespace {

using ovd::Box;
using ovd::area;
using ovd::iou;

// Columns 0 … columns - 1 are ground truth, column `columns` is the dummy. Costs are -IoU.
class Assignment {
 public:
  void reset(int32_t columns) {
    columns_ = columns;
    costs_.clear();
    row_price_.clear();
    price_.assign(columns, 0.0);
    row_of_.assign(columns, -1);
  }

  // Adds a row. Calls moved(row, before, after) with the IoUs of every row whose column changes, 0 for the dummy.
  template <class Moved>
  void add(const Box& detection, const Box* truth, const Moved& moved) {
    const int32_t row = static_cast<int32_t>(row_price_.size());
    for (int32_t j = 0; j < columns_; ++j) costs_.push_back(-iou(detection, area(detection), truth[j], area(truth[j])));
    row_price_.push_back(0.0);

    distance_.assign(columns_ + 1, std::numeric_limits<double>::infinity());
    via_.assign(columns_ + 1, -1);  // column before this one on the path; -1 = the new row itself
    done_.assign(columns_, 0);
    int32_t at = -1;  // column whose row is being expanded
    for (;;) {
      const int32_t i = at < 0 ? row : row_of_[at];
      double step = std::numeric_limits<double>::infinity();
      int32_t next = -1;
      for (int32_t j = 0; j <= columns_; ++j) {
        if (j < columns_ && done_[j]) continue;
        const double reduced = cost(i, j) - row_price_[i] - (j < columns_ ? price_[j] : 0.0);
        if (reduced < distance_[j]) distance_[j] = reduced, via_[j] = at;
        if (distance_[j] < step) step = distance_[j], next = j;
      }
      row_price_[row] += step;
      for (int32_t j = 0; j < columns_; ++j) {
        if (done_[j]) row_price_[row_of_[j]] += step, price_[j] -= step;
      }
      for (int32_t j = 0; j <= columns_; ++j) {
        if (j == columns_ || !done_[j]) distance_[j] -= step;
      }
      at = next;
      if (at == columns_ || row_of_[at] < 0) break;
      done_[at] = 1;
    }
    while (true) {  // from the end of the path back to the new row
      const int32_t from = via_[at], i = from < 0 ? row : row_of_[from];
      moved(i, from < 0 ? 0.0 : -cost(i, from), -cost(i, at));
      if (at < columns_) row_of_[at] = i;
      if (from < 0) break;
      at = from;
    }
  }

 private:
  double cost(int32_t row, int32_t column) const {
    return column < columns_ ? costs_[static_cast<int64_t>(row) * columns_ + column] : 0.0;
  }

  int32_t columns_ = 0;
  std::vector<double> costs_, row_price_, price_, distance_;
  std::vector<int32_t> row_of_, via_;
  std::vector<uint8_t> done_;
};

}  // namespace

extern "C" {

// Changes in true and false positives per detection, (n, thresholds) each. Pair p owns truth[truth_offsets[p] ..] and
// detections[offsets[p] ..]. An unassigned detection is no false positive at thresholds up to excused[detection].
void ovd_assign(int64_t pairs, const int64_t* truth_offsets, const Box* truth, const int64_t* offsets,
                const Box* detections, const double* excused, int32_t num_thresholds, const double* thresholds,
                int32_t threads, int16_t* tp_change, int16_t* fp_change) {
  std::vector<Assignment> scratch(std::max(1, threads));
  ovd::parallel_for(pairs, threads, [&](int64_t p, int thread) {
    Assignment& assignment = scratch[thread];
    const Box* boxes = truth + truth_offsets[p];
    assignment.reset(static_cast<int32_t>(truth_offsets[p + 1] - truth_offsets[p]));
    for (int64_t d = offsets[p]; d < offsets[p + 1]; ++d) {
      int16_t *tp = tp_change + d * num_thresholds, *fp = fp_change + d * num_thresholds;
      for (int32_t t = 0; t < num_thresholds; ++t) tp[t] = 0, fp[t] = excused[d] < thresholds[t];
      assignment.add(detections[d], boxes, [&](int32_t row, double before, double after) {
        const double excuse = excused[offsets[p] + row];
        for (int32_t t = 0; t < num_thresholds; ++t) {
          const int change = (after >= thresholds[t]) - (before >= thresholds[t]);
          tp[t] += change;
          if (excuse < thresholds[t]) fp[t] -= change;
        }
      });
    }
  });
}

}  // extern "C"
