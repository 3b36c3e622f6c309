// The columns that Python passes in, and lookups on them.
#pragma once

#include <algorithm>
#include <vector>

#include "engine.h"

namespace ovd {

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
  const double* area;                 // (rows), or null: w * h
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

// Position of an id among increasing ids: a direct table where the ids are dense enough, else binary search.
class Positions {
 public:
  Positions(const int64_t* ids, int64_t count) : ids_(ids), count_(count) {
    if (count == 0) return;
    first_ = ids[0];
    const uint64_t span = static_cast<uint64_t>(ids[count - 1]) - static_cast<uint64_t>(first_) + 1;
    // COCO's image ids reach 600,000: a table of 4 million entries serves it and costs at most 16 MB
    if (span == 0 || span > std::max<uint64_t>(uint64_t{1} << 22, 4 * static_cast<uint64_t>(count))) return;
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

}  // namespace ovd
