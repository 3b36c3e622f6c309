// Greedy matching of the selected detections.
//
// The rules are those of lvis-api (lvis/eval.py) and pycocotools (cocoeval.py); what is different is the order of work.
// Images are independent, so walking a class in global score order gives the same greedy matches as the official loops
// over (image, class) pairs, and the four area ranges and ten IoU thresholds are bits of one word.

#include <cmath>

#include "select.h"

namespace ovd {
namespace {

struct Outputs {
  int64_t* truth_offsets;   // (classes + 1) into the sorted ground truth that takes part
  int32_t* positives;       // (classes, areas) regular ground truth
  int64_t* detections;      // (classes) that took part
  int32_t* tp_count;        // (classes, max_dets, areas, thresholds)
  uint32_t* fp_at_tp;       // per class (max_dets, areas, thresholds, boxes of the class): false positives before each TP
  int64_t* record_offsets;  // (classes + 1), or null: no records wanted
  int32_t* record_image;    // (kept)
  uint32_t* record_row;     // (kept)
  uint64_t* record_tp;      // (kept) lanes in which the detection is a true positive
  uint64_t* record_ignored; // (kept) lanes in which it does not count
  uint8_t* record_rank;     // (kept) place among the detections of its image and class, capped at 255
};

template <class F>
class Matcher {
  using Rec = typename Selection<F>::Rec;

 public:
  Matcher(const GroundTruthColumns& gt, const PredictionColumns& dt, const Rules& rules)
      : gt_(gt), dt_(dt), rules_(rules), selection_(gt_, dt_, rules_), truth_(selection_.truth) {
    for (uint32_t areas = 0; areas < 1u << kAreas; ++areas) lanes_[areas] = lanes_of_areas(areas);
  }

  const Counts& counts() const { return selection_.counts; }
  int64_t truth_boxes() const { return static_cast<int64_t>(truth_.box.size()); }

  void match(const Outputs& out) {
    std::copy(truth_.class_offsets.begin(), truth_.class_offsets.end(), out.truth_offsets);
    std::vector<int64_t> order(gt_.classes);  // large classes first: better balance
    for (int64_t k = 0; k < gt_.classes; ++k) order[k] = k;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
    std::vector<Scratch> scratch(std::max(1, rules_.threads), Scratch(gt_.images));
    parallel_for(gt_.classes, rules_.threads, [&](int64_t i, int thread) {
      out.detections[order[i]] = match_class(order[i], scratch[thread], out);
    });
    if (out.record_offsets == nullptr) return;
    int64_t end = 0;  // close the gaps that detections beyond the largest max_dets left
    for (int64_t k = 0; k < gt_.classes; ++k) {
      const int64_t from = selection_.class_offsets[k], n = out.detections[k];
      out.record_offsets[k] = end;
      if (from != end) {
        std::memmove(out.record_image + end, out.record_image + from, n * sizeof(int32_t));
        std::memmove(out.record_row + end, out.record_row + from, n * sizeof(uint32_t));
        std::memmove(out.record_tp + end, out.record_tp + from, n * sizeof(uint64_t));
        std::memmove(out.record_ignored + end, out.record_ignored + from, n * sizeof(uint64_t));
        std::memmove(out.record_rank + end, out.record_rank + from, n);
      }
      end += n;
    }
    out.record_offsets[gt_.classes] = end;
  }

 private:
  struct Scratch {
    explicit Scratch(int64_t images) : first(images, -1), seen(images, 0) {}
    std::vector<int32_t> first;  // image -> first ground truth of the current class, -1 = none
    std::vector<int32_t> seen;   // image -> detections of the current class so far
    std::vector<uint64_t> taken;
    std::vector<std::pair<int32_t, double>> candidates;
  };

  int64_t size(int64_t k) const { return selection_.class_offsets[k + 1] - selection_.class_offsets[k]; }

  // Sorts and matches one class; returns the number of records written.
  int64_t match_class(int64_t k, Scratch& s, const Outputs& out) {
    Rec* begin = selection_.records.get() + selection_.class_offsets[k];
    Rec* end = selection_.records.get() + selection_.class_offsets[k + 1];
    std::sort(begin, end);

    const int64_t first_box = truth_.class_offsets[k], boxes = truth_.class_offsets[k + 1] - first_box;
    const int32_t* box = truth_.box.data() + first_box;
    s.taken.assign(boxes, 0);
    int32_t* positives = out.positives + k * kAreas;
    std::fill(positives, positives + kAreas, 0);
    for (int64_t g = boxes - 1; g >= 0; --g) {
      s.first[gt_.image_index[box[g]]] = static_cast<int32_t>(g);
      const uint32_t areas = regular_areas(box[g]);
      for (int a = 0; a < kAreas; ++a) positives[a] += areas >> a & 1;
    }

    const int lists = rules_.num_max_dets;
    const int64_t most = rules_.max_dets[lists - 1];
    int32_t* tp_count = out.tp_count + k * lists * kLanes;
    std::fill(tp_count, tp_count + lists * kLanes, 0);
    uint32_t* fp_at_tp = out.fp_at_tp + first_box * lists * kLanes;
    Curve curve[3] = {};

    int64_t written = 0;
    for (Rec* r = begin; r != end; ++r) {
      const int32_t image = static_cast<int32_t>(r->meta >> 5);
      const int64_t rank = s.seen[image]++;
      if (rank >= most) continue;
      const uint64_t out_of_range = r->meta & 16 ? kAllLanes : ~lanes_[r->meta & 15] & kAllLanes;
      uint64_t tp = 0, ignored = out_of_range;
      if (s.first[image] >= 0) match_one(*r, image, box, boxes, s, out_of_range, tp, ignored);
      for (int m = 0; m < lists; ++m) {
        if (rank < rules_.max_dets[m]) {
          curve[m].add(tp, ignored, tp_count + m * kLanes, fp_at_tp + m * kLanes * boxes, boxes);
        }
      }
      if (out.record_offsets != nullptr) {
        const int64_t at = selection_.class_offsets[k] + written;
        out.record_image[at] = image;
        out.record_row[at] = r->row;
        out.record_tp[at] = tp;
        out.record_ignored[at] = ignored;
        out.record_rank[at] = static_cast<uint8_t>(std::min<int64_t>(rank, 255));
      }
      ++written;
    }
    for (int64_t g = 0; g < boxes; ++g) s.first[gt_.image_index[box[g]]] = -1;
    for (Rec* r = begin; r != end; ++r) s.seen[r->meta >> 5] = 0;
    return written;
  }

  // Running counts of one precision-recall curve per lane. Only the false positives seen at each true positive matter:
  // precision falls between two true positives and recall does not move.
  struct Curve {
    uint32_t fp_of_area[kAreas];
    uint32_t fp_of_lane[kLanes];  // beyond fp_of_area
    void add(uint64_t tp, uint64_t ignored, int32_t* tp_count, uint32_t* fp_at_tp, int64_t boxes) {
      const uint64_t first = ignored & kFirstLanes;
      if (tp == 0 && ignored == first * kLanesOfArea) {  // the same at all thresholds: nearly every detection
        for (int a = 0; a < kAreas; ++a) fp_of_area[a] += ~(first >> (a * kThresholds)) & 1;
        return;
      }
      for (uint64_t fp = kAllLanes & ~tp & ~ignored; fp != 0; fp &= fp - 1) ++fp_of_lane[__builtin_ctzll(fp)];
      for (; tp != 0; tp &= tp - 1) {
        const int lane = __builtin_ctzll(tp);
        fp_at_tp[lane * boxes + tp_count[lane]++] = fp_of_area[lane / kThresholds] + fp_of_lane[lane];
      }
    }
  };

  uint32_t regular_areas(int32_t b) const {
    if (gt_.ignored[b]) return 0;
    uint32_t areas = 0;
    for (int a = 0; a < kAreas; ++a) {
      areas |= static_cast<uint32_t>(!(gt_.area[b] < rules_.area_low[a] || gt_.area[b] > rules_.area_high[a])) << a;
    }
    return areas;
  }

  // pycocotools maskApi.c bbIou: widths from the sums, not from the sizes; 0 without overlap in x or y.
  double iou(uint32_t row, const double* g, bool crowd) const {
    const auto value = [row](const void* column) -> double { return static_cast<const F*>(column)[row]; };
    const double x = value(dt_.x), y = value(dt_.y), dw = value(dt_.w), dh = value(dt_.h);
    const double w = std::fmin(dw + x, g[2] + g[0]) - std::fmax(x, g[0]);
    if (w <= 0) return 0;
    const double h = std::fmin(dh + y, g[3] + g[1]) - std::fmax(y, g[1]);
    if (h <= 0) return 0;
    const double intersection = w * h, detection = dw * dh;
    return intersection / (crowd ? detection : detection + g[2] * g[3] - intersection);
  }

  // A detection takes the best ground truth that is free; comparisons are written so that NaN behaves as in the
  // originals.
  void match_one(const Rec& r, int32_t image, const int32_t* box, int64_t boxes, Scratch& s, uint64_t out_of_range,
                 uint64_t& tp, uint64_t& ignored) const {
    s.candidates.clear();
    for (int64_t g = s.first[image]; g < boxes && gt_.image_index[box[g]] == image; ++g) {
      const double v = iou(r.row, gt_.boxes_xywh + 4 * int64_t{box[g]}, gt_.crowd[box[g]]);
      if (!(v < rules_.thresholds[0])) s.candidates.emplace_back(static_cast<int32_t>(g), v);
    }
    uint64_t ignored_match = 0, unmatched = kAllLanes;
    if (s.candidates.size() == 1) {
      const auto [g, v] = s.candidates[0];
      const int32_t b = box[g];
      uint64_t lanes = 0;
      for (int t = 0; t < kThresholds && !(v < rules_.thresholds[t]); ++t) lanes |= kFirstLanes << t;
      if (!gt_.crowd[b]) lanes &= ~s.taken[g];
      s.taken[g] |= lanes;
      const uint64_t regular = lanes & lanes_[regular_areas(b)];
      ignored_match = lanes & ~regular;
      if (!gt_.id_is_zero[b]) {
        tp = regular;
        unmatched &= ~lanes;
      }
    } else if (!s.candidates.empty()) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const int32_t g = best(lane, box, s);
        if (g < 0) continue;
        const uint64_t bit = uint64_t{1} << lane;
        s.taken[g] |= bit;
        const bool regular = regular_areas(box[g]) >> (lane / kThresholds) & 1;
        if (!regular) ignored_match |= bit;
        if (!gt_.id_is_zero[box[g]]) {
          if (regular) tp |= bit;
          unmatched &= ~bit;
        }
      }
    }
    ignored = ignored_match | (unmatched & out_of_range);
  }

  // Regular ground truth goes before ignored; in each the highest IoU wins, on equal IoU the later one.
  int32_t best(int lane, const int32_t* box, const Scratch& s) const {
    const int area = lane / kThresholds;
    int32_t found = -1;
    for (const bool regular : {true, false}) {
      double iou = rules_.thresholds[lane % kThresholds];
      for (const auto& [g, v] : s.candidates) {
        if (static_cast<bool>(regular_areas(box[g]) >> area & 1) != regular) continue;
        if ((s.taken[g] >> lane & 1) && !gt_.crowd[box[g]]) continue;
        if (v < iou) continue;
        iou = v;
        found = g;
      }
      if (found >= 0) return found;
    }
    return found;
  }

  const GroundTruthColumns gt_;
  const PredictionColumns dt_;
  const Rules rules_;
  const Selection<F> selection_;
  const SortedTruth& truth_;
  uint64_t lanes_[1 << kAreas];
};

}  // namespace

// State that a caller holds between ovd_prepare and ovd_match: exactly one of the two members is set.
struct Handle {
  std::unique_ptr<Matcher<float>> single;
  std::unique_ptr<Matcher<double>> twice;
};

template <class F>
bool prepare(std::unique_ptr<Matcher<F>>& matcher, const GroundTruthColumns& gt, const PredictionColumns& dt,
             const Rules& rules, Counts* counts, int64_t* truth_boxes) {
  matcher = std::make_unique<Matcher<F>>(gt, dt, rules);
  *counts = matcher->counts();
  *truth_boxes = matcher->truth_boxes();
  return counts->unknown_image_row < 0;
}

}  // namespace ovd

extern "C" {

// Returns a handle for ovd_match, or null when a detection names an unknown image (counts->unknown_image_row).
// The columns must stay alive until ovd_match has returned.
ovd::Handle* ovd_prepare(const ovd::GroundTruthColumns* gt, const ovd::PredictionColumns* dt, int32_t is_double,
                         const ovd::Rules* rules, ovd::Counts* counts, int64_t* truth_boxes) {
  auto handle = std::make_unique<ovd::Handle>();
  const bool fine = is_double ? ovd::prepare(handle->twice, *gt, *dt, *rules, counts, truth_boxes)
                              : ovd::prepare(handle->single, *gt, *dt, *rules, counts, truth_boxes);
  return fine ? handle.release() : nullptr;
}

// Fills the outputs (sized by counts->kept and truth_boxes) and frees the handle.
void ovd_match(ovd::Handle* handle, const ovd::Outputs* out) {
  if (handle->single) handle->single->match(*out);
  if (handle->twice) handle->twice->match(*out);
  delete handle;
}

}  // extern "C"
