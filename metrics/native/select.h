// Which detections take part: caps, federated filter, sorting into classes.
//
// The rules are those of lvis-api (lvis/results.py, lvis/eval.py) and pycocotools (coco.py, cocoeval.py).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "columns.h"

namespace ovd {

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

// Ground truth that takes part, sorted by class, then image, then file order.
struct SortedTruth {
  std::vector<int32_t> box;            // row in the columns
  std::vector<int64_t> class_offsets;  // (classes + 1)
  std::vector<int64_t> image_offsets;  // (images + 1) into classes_of_image
  std::vector<int32_t> classes_of_image;
};

inline SortedTruth sort_truth(const GroundTruthColumns& gt, bool federated) {
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

// Maps ids, applies the caps and filters, and sorts what is left into classes. F: float type of the columns.
template <class F>
class Selection {
 public:
  using Rec = Record<decltype(descending_key(F{}))>;

  Selection(const GroundTruthColumns& gt, const PredictionColumns& dt, const Rules& rules)
      : gt_(gt), dt_(dt), rules_(rules) {
    counts.unknown_image_row = -1;
    if (!find_images()) return;
    if (rules_.image_cap > 0) cap_images();
    truth = sort_truth(gt_, rules_.federated);
    find_classes();
    if (rules_.class_cap > 0) cap_classes();
    filter();
    scatter();
  }

  Counts counts{};  // unknown_image_row >= 0: nothing below is set
  SortedTruth truth;
  std::vector<int64_t> class_offsets;  // (classes + 1)
  std::unique_ptr<Rec[]> records;      // (class_offsets[classes]) in file order per class

 private:
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
        counts.unknown_image_row = row;
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
        return score(a) != score(b) ? score(a) > score(b) : a < b;
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
      counts.images_at_cap += n == rules_.image_cap;
      counts.images_over_cap += n > rules_.image_cap;
    }
    counts.over_image_cap = cap_groups(image_, gt_.images, rules_.image_cap, count);
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
    counts.over_class_cap = cap_groups(class_, gt_.classes, rules_.class_cap, count);
    if (counts.over_class_cap == 0) return;
    for (int64_t i = 0; i < dt_.rows; ++i) {
      if (before[i] >= 0 && class_[i] < 0) image_[i] = -1;  // dropped by the cap, not of an unknown class
    }
  }

  // Leaves in class_ the class of rows that take part, else -1, and in image_ the record's meta word.
  void filter() {
    class_counts_.assign(row_blocks(dt_.rows) * gt_.classes, 0);
    std::vector<Counts> block_counts(row_blocks(dt_.rows), Counts{});
    std::vector<std::vector<uint8_t>> flags(std::max(1, rules_.threads), std::vector<uint8_t>(gt_.classes, 0));
    parallel_for(row_blocks(dt_.rows), rules_.threads, [&](int64_t block, int thread) {
      Counts& c = block_counts[block];
      uint8_t* flag = flags[thread].data();
      uint32_t* per_class = class_counts_.data() + block * gt_.classes;
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
        const double w = width(i), h = height(i), area = dt_.area != nullptr ? dt_.area[i] : w * h;
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
      counts.unknown_class += c.unknown_class;
      counts.no_area += c.no_area;
      counts.negative_size += c.negative_size;
      counts.unverified += c.unverified;
    }
  }

  // Bit 0: the class is verified in the image (has ground truth or is listed as absent); bit 1: not exhaustive.
  void mark(int32_t image, uint8_t* flag, bool on) const {
    for (int64_t i = truth.image_offsets[image]; i < truth.image_offsets[image + 1]; ++i) {
      flag[truth.classes_of_image[i]] = on;
    }
    for (int64_t i = gt_.neg_offsets[image]; i < gt_.neg_offsets[image + 1]; ++i) flag[gt_.neg[i]] = on;
    for (int64_t i = gt_.nel_offsets[image]; i < gt_.nel_offsets[image + 1]; ++i) {
      flag[gt_.nel[i]] = on ? flag[gt_.nel[i]] | 2 : 0;
    }
  }

  void scatter() {
    const int64_t blocks = row_blocks(dt_.rows);
    class_offsets.assign(gt_.classes + 1, 0);
    std::vector<int64_t> cursor(blocks * gt_.classes);
    int64_t total = 0;
    for (int64_t k = 0; k < gt_.classes; ++k) {
      class_offsets[k] = total;
      for (int64_t b = 0; b < blocks; ++b) {
        cursor[b * gt_.classes + k] = total;
        total += class_counts_[b * gt_.classes + k];
      }
    }
    class_offsets[gt_.classes] = counts.kept = total;
    records.reset(new Rec[total]);
    parallel_for(blocks, rules_.threads, [&](int64_t block, int) {
      int64_t* at = cursor.data() + block * gt_.classes;
      const int64_t end = std::min(dt_.rows, (block + 1) * kRowBlock);
      for (int64_t i = block * kRowBlock; i < end; ++i) {
        if (class_[i] < 0) continue;
        records[at[class_[i]]++] = {descending_key(score(i)), static_cast<uint32_t>(image_[i]),
                                     static_cast<uint32_t>(i)};
      }
    });
    std::vector<int32_t>().swap(image_);
    std::vector<int32_t>().swap(class_);
    std::vector<uint32_t>().swap(class_counts_);
  }

  F score(int64_t row) const { return static_cast<const F*>(dt_.score)[row]; }
  double width(int64_t row) const { return static_cast<const F*>(dt_.w)[row]; }
  double height(int64_t row) const { return static_cast<const F*>(dt_.h)[row]; }

  const GroundTruthColumns& gt_;
  const PredictionColumns& dt_;
  const Rules& rules_;
  std::vector<int32_t> image_;  // per row: image, -1 = over a cap; after filter() the meta word
  std::vector<int32_t> class_;  // per row: class, -1 = takes no part
  std::vector<uint32_t> class_counts_;  // per row block: detections that take part, by class
};

}  // namespace ovd
