// From true positives with their false-positive counts to interpolated precision.

#include <algorithm>

#include "engine.h"

namespace {

using namespace ovd;

// np.spacing(1): the official evaluators add it to the denominator, so a lone true positive has precision 1 - 2^-53 …
constexpr double kSpacing = 2.220446049250313e-16;

// Precision at the 101 recall thresholds of one curve, written `stride` apart.
// `first_tp[r]`: 1-based number of the first true positive whose recall reaches threshold r.
void interpolate(const uint32_t* fp_at_tp, int32_t tp_count, const int32_t* first_tp, std::vector<double>& envelope,
                 double* out, int64_t stride) {
  envelope.resize(tp_count);
  double best = 0;
  for (int32_t j = tp_count; j-- > 0;) {
    const double tp = j + 1, fp = fp_at_tp[j];
    best = std::max(best, tp / (fp + tp + kSpacing));
    envelope[j] = best;
  }
  for (int r = 0; r < kRecalls; ++r) out[r * stride] = first_tp[r] <= tp_count ? envelope[first_tp[r] - 1] : 0.0;
}

// Recall k / positives is compared in float64 with linspace values, which differ from r / 100 in the last bit.
void find_first_tp(int32_t positives, const double* recall_thresholds, int32_t* first_tp) {
  int32_t k = 1;
  for (int r = 0; r < kRecalls; ++r) {
    // start near the answer, then use the same comparison as the original
    k = std::max(k, static_cast<int32_t>(recall_thresholds[r] * positives) - 1);
    while (k <= positives && static_cast<double>(k) / positives < recall_thresholds[r]) ++k;
    first_tp[r] = k;
  }
}

}  // namespace

extern "C" {

// Precision plane (thresholds, recalls, classes) of one area range and one detection limit; -1 where a class has no
// positives. Strides: curve (k, t) has tp_count[k * count_stride + t] true positives and its false-positive counts
// start at fp_at_tp[fp_start[k] + t * boxes], with boxes = truth_offsets[k + 1] - truth_offsets[k].
void ovd_precision(int64_t classes, const int64_t* truth_offsets, const int32_t* positives, int64_t positives_stride,
                   const int32_t* tp_count, int64_t count_stride, const uint32_t* fp_at_tp, int64_t lists, int64_t list,
                   int64_t area, const double* recall_thresholds, int32_t threads, double* precision) {
  constexpr int64_t kBlock = 8;  // classes of one cache line of the plane: no two threads write the same line
  parallel_for((classes + kBlock - 1) / kBlock, threads, [&](int64_t block, int) {
    std::vector<double> envelope;
    int32_t first_tp[kRecalls];
    for (int64_t k = block * kBlock; k < std::min(classes, (block + 1) * kBlock); ++k) {
      const int32_t npos = positives[k * positives_stride];
      if (npos == 0) {
        for (int64_t i = 0; i < kThresholds * kRecalls; ++i) precision[i * classes + k] = -1;
        continue;
      }
      find_first_tp(npos, recall_thresholds, first_tp);
      const int64_t boxes = truth_offsets[k + 1] - truth_offsets[k];
      const uint32_t* fp = fp_at_tp + (truth_offsets[k] * lists + list * boxes) * kLanes + area * kThresholds * boxes;
      for (int64_t t = 0; t < kThresholds; ++t) {
        interpolate(fp + t * boxes, tp_count[k * count_stride + t], first_tp, envelope,
                    precision + t * kRecalls * classes + k, classes);
      }
    }
  });
}

}  // extern "C"
