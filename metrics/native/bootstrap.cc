// AP of many weighted resamples of the images, from the outcomes of one evaluation.
//
// A resample is a weight per image: how often the image was drawn. Matching does not change, so precision and recall are
// weighted running sums over the records of a class. Resamples are processed side by side, one vector lane each.

#include <algorithm>
#include <cmath>
#include <memory>

#include "engine.h"

namespace {

using namespace ovd;

constexpr int kWide = 32;                     // resamples per pass
constexpr double kSpacing = 2.220446049250313e-16;
constexpr uint32_t kEverywhere = kLanesOfArea;  // all thresholds of one area

// One record in one area range: the thresholds at which it is a true or a false positive.
struct Step {
  uint32_t image;
  uint16_t tp, fp;
};

struct Inputs {
  int64_t images, classes;
  const int64_t* record_offsets;   // (classes + 1)
  const int32_t* record_image;
  const uint64_t* record_tp;
  const uint64_t* record_ignored;
  const int64_t* truth_offsets;    // (classes + 1)
  const int32_t* truth_image;      // ground truth sorted by class
  const uint8_t* truth_areas;      // one bit per area range in which it is regular
  const int8_t* group;             // (classes) 0 r, 1 c, 2 f, -1 none
  const uint8_t* weights;          // (resamples, images)
  int64_t resamples;
  int32_t threads;
};

// Per class and pass: sums over thresholds and recalls, one row per statistic.
enum Sum { kAll, k50, k75, kRecall, kSmall, kMedium, kLarge, kSums };
struct ClassSums {
  double value[kSums][kWide];
  bool defined[kAreas][kWide];
};

// Records of a class that can change the curve of an area: neither ignored throughout nor behind the last true positive.
std::vector<Step> steps_of(const Inputs& in, int64_t k, int area) {
  std::vector<Step> steps;
  size_t end = 0;
  for (int64_t i = in.record_offsets[k]; i < in.record_offsets[k + 1]; ++i) {
    const auto tp = static_cast<uint16_t>(in.record_tp[i] >> (area * kThresholds) & kLanesOfArea);
    const auto ignored = static_cast<uint16_t>(in.record_ignored[i] >> (area * kThresholds) & kLanesOfArea);
    const auto fp = static_cast<uint16_t>(kEverywhere & ~tp & ~ignored);
    if ((tp | fp) == 0) continue;
    steps.push_back({static_cast<uint32_t>(in.record_image[i]), tp, fp});
    if (tp != 0) end = steps.size();
  }
  steps.resize(end);
  steps.shrink_to_fit();
  return steps;
}

using Lane32 = uint32_t[kWide];
using Lane64 = double[kWide];

inline void add(Lane32& sum, const uint8_t* w) {
  for (int l = 0; l < kWide; ++l) sum[l] += w[l];
}

// Number of recall thresholds (r * 0.01, as linspace computes them) at or below tp / positives; none without a TP.
inline double thresholds_reached(double tp, double positives) {
  const double recall = tp / positives, guess = std::floor(recall * 100);
  const double reached = guess + (guess * 0.01 <= recall ? 1 : 0) + ((guess + 1) * 0.01 <= recall ? 1 : 0);
  return tp > 0 ? reached : 0;
}

// Adds up the interpolated precision at the 101 recall thresholds: per threshold t into sums[t], and the final recalls.
// First a pass for the totals, then one backwards, where the envelope is a running maximum and no curve is stored.
void integrate(const std::vector<Step>& steps, const uint8_t* weights, const Lane64& positives, Lane64* sums,
               Lane64* recalls) {
  alignas(64) Lane32 fp_everywhere = {}, fp[kThresholds] = {}, tp[kThresholds] = {};
  alignas(64) Lane64 envelope[kThresholds] = {}, reached[kThresholds];
  for (const Step& s : steps) {
    const uint8_t* w = weights + int64_t{s.image} * kWide;
    if (s.fp == kEverywhere) {
      add(fp_everywhere, w);
      continue;
    }
    for (uint32_t f = s.fp; f != 0; f &= f - 1) add(fp[__builtin_ctz(f)], w);
    for (uint32_t f = s.tp; f != 0; f &= f - 1) add(tp[__builtin_ctz(f)], w);
  }
  for (int t = 0; t < kThresholds; ++t) {
    for (int l = 0; l < kWide; ++l) {
      reached[t][l] = thresholds_reached(tp[t][l], positives[l]);
      recalls[t][l] = tp[t][l] / positives[l];
      sums[t][l] = 0;
    }
  }
  for (auto s = steps.rbegin(); s != steps.rend(); ++s) {
    const uint8_t* w = weights + int64_t{s->image} * kWide;
    if (s->fp == kEverywhere) {
      for (int l = 0; l < kWide; ++l) fp_everywhere[l] -= w[l];
      continue;
    }
    for (uint32_t f = s->tp; f != 0; f &= f - 1) {
      const int t = __builtin_ctz(f);
      for (int l = 0; l < kWide; ++l) {
        const double hits = tp[t][l];
        const double precision = hits / (static_cast<double>(fp_everywhere[l] + fp[t][l]) + hits + kSpacing);
        envelope[t][l] = std::max(envelope[t][l], precision);
        tp[t][l] -= w[l];
        const double before = thresholds_reached(tp[t][l], positives[l]);
        sums[t][l] += envelope[t][l] * (reached[t][l] - before);
        reached[t][l] = before;
      }
    }
    for (uint32_t f = s->fp; f != 0; f &= f - 1) {
      for (int l = 0; l < kWide; ++l) fp[__builtin_ctz(f)][l] -= w[l];
    }
  }
}

void sum_class(const Inputs& in, int64_t k, const std::vector<Step>* steps, const uint8_t* weights, ClassSums& out) {
  alignas(64) Lane32 counted[kAreas] = {};
  alignas(64) Lane64 positives, sums[kThresholds], recalls[kThresholds];
  for (int64_t g = in.truth_offsets[k]; g < in.truth_offsets[k + 1]; ++g) {
    for (int a = 0; a < kAreas; ++a) {
      if (in.truth_areas[g] >> a & 1) add(counted[a], weights + int64_t{in.truth_image[g]} * kWide);
    }
  }
  for (int a = 0; a < kAreas; ++a) {
    for (int l = 0; l < kWide; ++l) {
      out.defined[a][l] = counted[a][l] > 0;
      positives[l] = std::max(counted[a][l], 1u);
    }
    integrate(steps[a], weights, positives, sums, recalls);
    double* total = out.value[a == 0 ? kAll : kSmall + a - 1];
    std::fill(total, total + kWide, 0.0);
    for (int t = 0; t < kThresholds; ++t) {
      for (int l = 0; l < kWide; ++l) total[l] += sums[t][l];
    }
    if (a != 0) continue;
    std::copy(sums[0], sums[0] + kWide, out.value[k50]);
    std::copy(sums[5], sums[5] + kWide, out.value[k75]);
    std::fill(out.value[kRecall], out.value[kRecall] + kWide, 0.0);
    for (int t = 0; t < kThresholds; ++t) {
      for (int l = 0; l < kWide; ++l) out.value[kRecall][l] += recalls[t][l];
    }
  }
}

constexpr int kStatistics = kSums + 3;  // + APr, APc, APf

// Means over the classes that have ground truth in the resample, added up in class order. NaN where there is none.
void reduce(const Inputs& in, const std::vector<ClassSums>& sums, int64_t lanes, double* statistics, float* per_class) {
  constexpr double entries = kThresholds * kRecalls;
  for (int64_t l = 0; l < lanes; ++l) {
    double total[kStatistics] = {}, classes[kStatistics] = {};
    for (int64_t k = 0; k < in.classes; ++k) {
      const ClassSums& s = sums[k];
      if (per_class != nullptr) {
        per_class[l * in.classes + k] = s.defined[0][l] ? static_cast<float>(s.value[kAll][l] / entries) : NAN;
      }
      for (int i = 0; i < kSums; ++i) {
        if (!s.defined[i < kSmall ? 0 : i - kSmall + 1][l]) continue;
        total[i] += s.value[i][l];
        ++classes[i];
      }
      if (in.group[k] >= 0 && s.defined[0][l]) {
        total[kSums + in.group[k]] += s.value[kAll][l];
        ++classes[kSums + in.group[k]];
      }
    }
    for (int i = 0; i < kStatistics; ++i) {
      const double of_each = i == k50 || i == k75 ? kRecalls : i == kRecall ? kThresholds : entries;
      statistics[l * kStatistics + i] = classes[i] > 0 ? total[i] / (classes[i] * of_each) : NAN;
    }
  }
}

}  // namespace

extern "C" {

// statistics: (resamples, 10) AP, AP50, AP75, AR, APs, APm, APl, APr, APc, APf; per_class: (resamples, classes) or null.
void ovd_bootstrap(const Inputs* inputs, double* statistics, float* per_class) {
  const Inputs& in = *inputs;
  std::vector<std::vector<Step>> steps(in.classes * kAreas);
  parallel_for(in.classes * kAreas, in.threads,
               [&](int64_t i, int) { steps[i] = steps_of(in, i / kAreas, static_cast<int>(i % kAreas)); });
  std::vector<int64_t> order(in.classes);  // large classes first: better balance
  for (int64_t k = 0; k < in.classes; ++k) order[k] = k;
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return steps[a * kAreas].size() > steps[b * kAreas].size(); });
  std::vector<uint8_t> weights(in.images * kWide);
  std::vector<ClassSums> sums(in.classes);
  for (int64_t first = 0; first < in.resamples; first += kWide) {
    const int64_t lanes = std::min<int64_t>(kWide, in.resamples - first);
    std::fill(weights.begin(), weights.end(), 0);
    for (int64_t l = 0; l < lanes; ++l) {
      const uint8_t* row = in.weights + (first + l) * in.images;
      for (int64_t i = 0; i < in.images; ++i) weights[i * kWide + l] = row[i];
    }
    parallel_for(in.classes, in.threads, [&](int64_t i, int) {
      sum_class(in, order[i], &steps[order[i] * kAreas], weights.data(), sums[order[i]]);
    });
    reduce(in, sums, lanes, statistics + first * kStatistics,
           per_class == nullptr ? nullptr : per_class + first * in.classes);
  }
}

}  // extern "C"
