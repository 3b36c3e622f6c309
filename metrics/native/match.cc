// From columns to match outcomes: cap, federated filter, sort, greedy matching.
//
// The rules are those of lvis-api (lvis/eval.py, lvis/results.py) and pycocotools (cocoeval.py); what is different is the
// order of work. Images are independent, so walking a class in global score order gives the same greedy matches as the
// official loops over (image, class) pairs, and the four area ranges and ten IoU thresholds are bits of one word.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "engine.h"

namespace ovd {
namespace {

struct GroundTruthColumns {
  int64_t images, classes, boxes;
  const int64_t* image_ids;     // (images) increasing
  const int64_t* category_ids;  // (classes) increasing
  const int32_t* image_index;   // (boxes)
  const int32_t* class_index;   // (boxes)
  const double* boxes_xywh;     // (boxes, 4)
  const double* area;           // (boxes)
  const uint8_t* ignored;       // (boxes) never counted, whatever the area range
  const uint8_t* crowd;         // (boxes) may be matched repeatedly; IoU is intersection over detection
  const uint8_t* id_is_zero;    // (boxes) a match is stored as the id, so id 0 reads as "unmatched"
  const int64_t* neg_offsets;   // (images + 1)
  const int32_t* neg;
  const int64_t* nel_offsets;   // (images + 1)
  const int32_t* nel;
};

struct PredictionColumns {
  int64_t rows;
  const int64_t* image_id;
  const int32_t* category_id;
  const void *score, *x, *y, *w, *h;  // all float or all double
};

struct Rules {
  int32_t federated;         // LVIS: verified pairs only, boxes without area vanish; otherwise COCO
  int32_t image_cap;         // detections per image over all classes, 0 = none
  int32_t class_cap;         // detections per class over all images, 0 = none
  int32_t num_max_dets;      // COCO: per image and class, increasing; LVIS: one entry, INT32_MAX
  int32_t max_dets[3];
  int32_t threads;
  double thresholds[kThresholds];
  double area_low[kAreas], area_high[kAreas];
};

struct Counts {
  int64_t unknown_image_row;  // first row with an image id that is not in the ground truth, -1 = none
  int64_t unknown_class, no_area, negative_size, unverified, over_image_cap, over_class_cap;
  int64_t images_at_cap;      // images with exactly image_cap detections, and none with more, mean a capped file
  int64_t images_over_cap;
  int64_t kept;
};

struct Outputs {
  int64_t* truth_offsets;   // (classes + 1) into the sorted ground truth that takes part
  int32_t* positives;       // (classes, areas) regular ground truth
  int32_t* tp_count;        // (classes, max_dets, areas, thresholds)
  uint32_t* fp_at_tp;       // per class (max_dets, areas, thresholds, boxes of the class): false positives before each TP
  int64_t* record_offsets;  // (classes + 1), or null: no records wanted
  int32_t* record_image;    // (kept)
  uint32_t* record_row;     // (kept)
  uint64_t* record_tp;      // (kept) lanes in which the detection is a true positive
  uint64_t* record_ignored; // (kept) lanes in which it does not count
  uint8_t* record_rank;     // (kept) place among the detections of its image and class, capped at 255
};

// A detection that takes part. Sorted by score descending, then image, then file order.
template <class Key>
struct Record {
  Key key;        // score as an unsigned number that increases as the score decreases
  uint32_t meta;  // image << 5 | not exhaustive << 4 | one bit per area range that contains the box
  uint32_t row;
  bool operator<(const Record& o) const {
    if (key != o.key) return key < o.key;
    const uint32_t image = meta >> 5, other = o.meta >> 5;
    return image != other ? image < other : row < o.row;
  }
};

inline uint32_t descending_key(float score) {
  score += 0.0f;  // -0.0 and 0.0 tie
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

inline uint64_t descending_key(double score) {
  score += 0.0;
  uint64_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  constexpr uint64_t sign = uint64_t{1} << 63;
  return bits & sign ? bits : ~bits & (sign - 1);
}

// Position of an id among increasing ids: a direct table where the ids are dense enough, else binary search.
class Positions {
 public:
  Positions(const int64_t* ids, int64_t count) : ids_(ids), count_(count) {
    if (count == 0) return;
    first_ = ids[0];
    const uint64_t span = static_cast<uint64_t>(ids[count - 1]) - static_cast<uint64_t>(first_) + 1;
    if (span == 0 || span > std::max<uint64_t>(uint64_t{1} << 16, 64 * static_cast<uint64_t>(count))) return;
    table_.assign(span, -1);
    for (int64_t i = 0; i < count; ++i) table_[static_cast<uint64_t>(ids[i]) - static_cast<uint64_t>(first_)] = i;
  }
  int32_t find(int64_t id) const {
    if (!table_.empty()) {
      const uint64_t at = static_cast<uint64_t>(id) - static_cast<uint64_t>(first_);
      return at < table_.size() ? table_[at] : -1;
    }
    const int64_t* found = std::lower_bound(ids_, ids_ + count_, id);
    return found != ids_ + count_ && *found == id ? static_cast<int32_t>(found - ids_) : -1;
  }

 private:
  const int64_t* ids_;
  int64_t count_, first_ = 0;
  std::vector<int32_t> table_;
};

// Row ranges of the columns that threads work on. Fixed by the number of rows alone.
constexpr int64_t kRowBlock = 1 << 16;
inline int64_t row_blocks(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }

// Ground truth that takes part, sorted by class, then image, then file order.
struct SortedTruth {
  std::vector<int32_t> box;            // row in the columns
  std::vector<int64_t> class_offsets;  // (classes + 1)
  std::vector<int64_t> image_offsets;  // (images + 1) into classes_of_image
  std::vector<int32_t> classes_of_image;
};

SortedTruth sort_truth(const GroundTruthColumns& gt, bool federated) {
  SortedTruth sorted;
  for (int64_t i = 0; i < gt.boxes; ++i) {
    if (!federated || gt.area[i] > 0) sorted.box.push_back(static_cast<int32_t>(i));
  }
  sorted.image_offsets.assign(gt.images + 1, 0);
  for (int32_t b : sorted.box) ++sorted.image_offsets[gt.image_index[b] + 1];
  for (int64_t i = 0; i < gt.images; ++i) sorted.image_offsets[i + 1] += sorted.image_offsets[i];
  sorted.classes_of_image.resize(sorted.box.size());
  std::vector<int64_t> cursor(sorted.image_offsets.begin(), sorted.image_offsets.end() - 1);
  for (int32_t b : sorted.box) sorted.classes_of_image[cursor[gt.image_index[b]]++] = gt.class_index[b];

  std::stable_sort(sorted.box.begin(), sorted.box.end(), [&](int32_t a, int32_t b) {
    if (gt.class_index[a] != gt.class_index[b]) return gt.class_index[a] < gt.class_index[b];
    return gt.image_index[a] < gt.image_index[b];
  });
  sorted.class_offsets.assign(gt.classes + 1, 0);
  for (int32_t b : sorted.box) ++sorted.class_offsets[gt.class_index[b] + 1];
  for (int64_t k = 0; k < gt.classes; ++k) sorted.class_offsets[k + 1] += sorted.class_offsets[k];
  return sorted;
}

template <class F>
class Matcher {
  using Key = decltype(descending_key(F{}));
  using Rec = Record<Key>;

 public:
  Matcher(const GroundTruthColumns& gt, const PredictionColumns& dt, const Rules& rules)
      : gt_(gt), dt_(dt), rules_(rules), score_(static_cast<const F*>(dt.score)), x_(static_cast<const F*>(dt.x)),
        y_(static_cast<const F*>(dt.y)), w_(static_cast<const F*>(dt.w)), h_(static_cast<const F*>(dt.h)) {
    counts_ = {};
    counts_.unknown_image_row = -1;
    for (uint32_t areas = 0; areas < 1u << kAreas; ++areas) lanes_[areas] = lanes_of_areas(areas);
  }

  // Maps ids, applies the caps and filters, and sorts what is left by class. False: unknown image id.
  bool prepare() {
    if (!find_images()) return false;
    if (rules_.image_cap > 0) cap_images();
    truth_ = sort_truth(gt_, rules_.federated);
    find_classes();
    if (rules_.class_cap > 0) cap_classes();
    filter();
    scatter();
    return true;
  }

  const Counts& counts() const { return counts_; }
  int64_t kept() const { return counts_.kept; }
  int64_t truth_boxes() const { return static_cast<int64_t>(truth_.box.size()); }

  void match(const Outputs& out) {
    std::copy(truth_.class_offsets.begin(), truth_.class_offsets.end(), out.truth_offsets);
    std::vector<int64_t> order(gt_.classes);  // large classes first: better balance
    for (int64_t k = 0; k < gt_.classes; ++k) order[k] = k;
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return size(a) > size(b); });
    std::vector<Scratch> scratch(std::max(1, rules_.threads), Scratch(gt_.images));
    std::vector<int64_t> written(gt_.classes, 0);
    parallel_for(gt_.classes, rules_.threads, [&](int64_t i, int thread) {
      written[order[i]] = match_class(order[i], scratch[thread], out);
    });
    if (out.record_offsets == nullptr) return;
    int64_t end = 0;  // close the gaps that detections beyond the largest max_dets left
    for (int64_t k = 0; k < gt_.classes; ++k) {
      const int64_t from = class_offsets_[k], n = written[k];
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
    std::vector<int32_t> first;  // image -> first ground truth of the class at hand, -1 = none
    std::vector<int32_t> seen;   // image -> detections of the class at hand so far
    std::vector<uint64_t> taken;
    std::vector<std::pair<int32_t, double>> candidates;
  };

  int64_t size(int64_t k) const { return class_offsets_[k + 1] - class_offsets_[k]; }

  bool find_images() {
    image_.resize(dt_.rows);
    const Positions positions(gt_.image_ids, gt_.images);
    std::vector<int64_t> unknown(row_blocks(dt_.rows), -1);
    parallel_for(row_blocks(dt_.rows), rules_.threads, [&](int64_t block, int) {
      const int64_t end = std::min(dt_.rows, (block + 1) * kRowBlock);
      for (int64_t i = block * kRowBlock; i < end; ++i) {
        image_[i] = positions.find(dt_.image_id[i]);
        if (image_[i] < 0 && unknown[block] < 0) unknown[block] = i;
      }
    });
    for (int64_t row : unknown) {
      if (row >= 0) {
        counts_.unknown_image_row = row;
        return false;
      }
    }
    return true;
  }

  // Keeps the best `cap` rows of every group that has more: by score, ties in file order. Others get group -1.
  int64_t cap_groups(std::vector<int32_t>& group, int64_t groups, int64_t cap, const std::vector<int64_t>& count) {
    std::vector<int64_t> offset(groups, -1);
    int64_t total = 0;
    for (int64_t g = 0; g < groups; ++g) {
      if (count[g] > cap) {
        offset[g] = total;
        total += count[g];
      }
    }
    if (total == 0) return 0;
    std::vector<uint32_t> rows(total);
    std::vector<int64_t> cursor(offset);
    for (int64_t i = 0; i < dt_.rows; ++i) {
      const int32_t g = group[i];
      if (g >= 0 && offset[g] >= 0) rows[cursor[g]++] = static_cast<uint32_t>(i);
    }
    std::vector<int64_t> over;
    for (int64_t g = 0; g < groups; ++g) {
      if (offset[g] >= 0) over.push_back(g);
    }
    std::atomic<int64_t> dropped{0};
    parallel_for(static_cast<int64_t>(over.size()), rules_.threads, [&](int64_t i, int) {
      uint32_t* first = rows.data() + offset[over[i]];
      uint32_t* last = first + count[over[i]];
      std::nth_element(first, first + cap, last, [&](uint32_t a, uint32_t b) {
        return score_[a] != score_[b] ? score_[a] > score_[b] : a < b;
      });
      for (uint32_t* row = first + cap; row != last; ++row) group[*row] = -1;
      dropped += last - first - cap;
    });
    return dropped;
  }

  void cap_images() {
    std::vector<int64_t> count(gt_.images, 0);
    for (int64_t i = 0; i < dt_.rows; ++i) ++count[image_[i]];
    for (int64_t n : count) {
      counts_.images_at_cap += n == rules_.image_cap;
      counts_.images_over_cap += n > rules_.image_cap;
    }
    counts_.over_image_cap = cap_groups(image_, gt_.images, rules_.image_cap, count);
  }

  void find_classes() {
    class_.resize(dt_.rows);
    const Positions positions(gt_.category_ids, gt_.classes);
    parallel_for(row_blocks(dt_.rows), rules_.threads, [&](int64_t block, int) {
      const int64_t end = std::min(dt_.rows, (block + 1) * kRowBlock);
      for (int64_t i = block * kRowBlock; i < end; ++i) class_[i] = positions.find(dt_.category_id[i]);
    });
  }

  void cap_classes() {
    std::vector<int64_t> count(gt_.classes, 0);
    for (int64_t i = 0; i < dt_.rows; ++i) {
      if (class_[i] >= 0) ++count[class_[i]];
    }
    std::vector<int32_t> before(class_);
    counts_.over_class_cap = cap_groups(class_, gt_.classes, rules_.class_cap, count);
    if (counts_.over_class_cap == 0) return;
    for (int64_t i = 0; i < dt_.rows; ++i) {
      if (before[i] >= 0 && class_[i] < 0) image_[i] = -1;  // dropped by the cap, not of an unknown class
    }
  }

  // Leaves in class_ the class of rows that take part, else -1, and in image_ the record's meta word.
  void filter() {
    block_counts_.assign(row_blocks(dt_.rows) * gt_.classes, 0);
    std::vector<Counts> block_counts(row_blocks(dt_.rows), Counts{});
    std::vector<std::vector<uint8_t>> flags(std::max(1, rules_.threads), std::vector<uint8_t>(gt_.classes, 0));
    parallel_for(row_blocks(dt_.rows), rules_.threads, [&](int64_t block, int thread) {
      Counts& c = block_counts[block];
      uint8_t* flag = flags[thread].data();
      uint32_t* per_class = block_counts_.data() + block * gt_.classes;
      int32_t marked = -1;
      const int64_t end = std::min(dt_.rows, (block + 1) * kRowBlock);
      for (int64_t i = block * kRowBlock; i < end; ++i) {
        const int32_t image = image_[i], k = class_[i];
        class_[i] = -1;
        if (image < 0) continue;  // over a cap
        if (k < 0) {
          ++c.unknown_class;
          continue;
        }
        const double w = w_[i], h = h_[i], area = w * h;
        c.negative_size += w < 0 || h < 0;
        if (!(area > 0)) ++c.no_area;
        uint32_t not_exhaustive = 0;
        if (rules_.federated) {
          if (!(area > 0)) continue;
          if (image != marked) {
            if (marked >= 0) mark(marked, flag, false);
            mark(image, flag, true);
            marked = image;
          }
          if (!(flag[k] & 1)) {
            ++c.unverified;
            continue;
          }
          not_exhaustive = flag[k] >> 1;
        }
        uint32_t areas = 0;
        for (int a = 0; a < kAreas; ++a) {
          areas |= static_cast<uint32_t>(!(area < rules_.area_low[a] || area > rules_.area_high[a])) << a;
        }
        class_[i] = k;
        image_[i] = static_cast<int32_t>(static_cast<uint32_t>(image) << 5 | not_exhaustive << 4 | areas);
        ++per_class[k];
      }
      if (marked >= 0) mark(marked, flag, false);
    });
    for (const Counts& c : block_counts) {
      counts_.unknown_class += c.unknown_class;
      counts_.no_area += c.no_area;
      counts_.negative_size += c.negative_size;
      counts_.unverified += c.unverified;
    }
  }

  // Bit 0: the class is verified in the image (has ground truth or is listed as absent); bit 1: not exhaustive.
  void mark(int32_t image, uint8_t* flag, bool on) const {
    for (int64_t i = truth_.image_offsets[image]; i < truth_.image_offsets[image + 1]; ++i) {
      flag[truth_.classes_of_image[i]] = on;
    }
    for (int64_t i = gt_.neg_offsets[image]; i < gt_.neg_offsets[image + 1]; ++i) flag[gt_.neg[i]] = on;
    for (int64_t i = gt_.nel_offsets[image]; i < gt_.nel_offsets[image + 1]; ++i) {
      flag[gt_.nel[i]] = on ? flag[gt_.nel[i]] | 2 : 0;
    }
  }

  void scatter() {
    const int64_t blocks = row_blocks(dt_.rows);
    class_offsets_.assign(gt_.classes + 1, 0);
    std::vector<int64_t> cursor(blocks * gt_.classes);
    int64_t total = 0;
    for (int64_t k = 0; k < gt_.classes; ++k) {
      class_offsets_[k] = total;
      for (int64_t b = 0; b < blocks; ++b) {
        cursor[b * gt_.classes + k] = total;
        total += block_counts_[b * gt_.classes + k];
      }
    }
    class_offsets_[gt_.classes] = counts_.kept = total;
    records_.reset(new Rec[total]);
    parallel_for(blocks, rules_.threads, [&](int64_t block, int) {
      int64_t* at = cursor.data() + block * gt_.classes;
      const int64_t end = std::min(dt_.rows, (block + 1) * kRowBlock);
      for (int64_t i = block * kRowBlock; i < end; ++i) {
        if (class_[i] < 0) continue;
        records_[at[class_[i]]++] = {descending_key(score_[i]), static_cast<uint32_t>(image_[i]),
                                     static_cast<uint32_t>(i)};
      }
    });
    std::vector<int32_t>().swap(image_);
    std::vector<int32_t>().swap(class_);
    std::vector<uint32_t>().swap(block_counts_);
  }

  // Sorts and matches one class; returns the number of records written.
  int64_t match_class(int64_t k, Scratch& s, const Outputs& out) {
    Rec* begin = records_.get() + class_offsets_[k];
    Rec* end = records_.get() + class_offsets_[k + 1];
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
        const int64_t at = class_offsets_[k] + written;
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
    const double x = x_[row], y = y_[row], dw = w_[row], dh = h_[row];
    const double w = std::fmin(dw + x, g[2] + g[0]) - std::fmax(x, g[0]);
    if (w <= 0) return 0;
    const double h = std::fmin(dh + y, g[3] + g[1]) - std::fmax(y, g[1]);
    if (h <= 0) return 0;
    const double intersection = w * h, detection = dw * dh;
    return intersection / (crowd ? detection : detection + g[2] * g[3] - intersection);
  }

  // A detection takes the best ground truth that is free; comparisons are written so that NaN behaves as in the originals.
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
  const F *score_, *x_, *y_, *w_, *h_;
  Counts counts_;
  uint64_t lanes_[1 << kAreas];
  SortedTruth truth_;
  std::vector<int32_t> image_;  // per row: image, -1 = over a cap; after filter() the meta word
  std::vector<int32_t> class_;  // per row: class, -1 = takes no part
  std::vector<uint32_t> block_counts_;
  std::vector<int64_t> class_offsets_;
  std::unique_ptr<Rec[]> records_;
};

}  // namespace

// What a call from outside holds between ovd_prepare and ovd_match: exactly one of the two is set.
struct Handle {
  std::unique_ptr<Matcher<float>> single;
  std::unique_ptr<Matcher<double>> twice;
};

template <class F>
bool prepare(std::unique_ptr<Matcher<F>>& matcher, const GroundTruthColumns& gt, const PredictionColumns& dt,
             const Rules& rules, Counts* counts, int64_t* truth_boxes) {
  matcher = std::make_unique<Matcher<F>>(gt, dt, rules);
  const bool fine = matcher->prepare();
  *counts = matcher->counts();
  *truth_boxes = matcher->truth_boxes();
  return fine;
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
