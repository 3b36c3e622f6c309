// AP of many weighted resamples of the images, from the outcomes of one evaluation.
//
// A resample is a weight per image: how often the image was drawn. Matching does not change, so precision and recall
// are weighted running sums over the records of a class. Resamples are processed side by side, one vector lane each.

#include <algorithm>
#include <cmath>

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
  int32_t thresholds;              // in use; the other lanes repeat the last one
  int32_t at50, at75;              // numbers of the thresholds 0.50 and 0.75, -1 = none
};

// Per class and pass: sums over thresholds and recalls, one row per statistic.
enum Sum { kAll, k50, k75, kRecall, kSmall, kMedium, kLarge, kSums };
struct ClassSums {
  double value[kSums][kWide];
  bool defined[kAreas][kWide];
};

// Records of a class that can change the curve of an area: neither ignored throughout nor after the last true
// positive.
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

// Eight lanes at a time, written explicitly: the compiler does not vectorize these loops.
constexpr int kPacks = kWide / 8;
using Doubles = double __attribute__((vector_size(64)));
using Unsigned = uint32_t __attribute__((vector_size(32)));
using Int = int32_t __attribute__((vector_size(32)));
using Bytes = uint8_t __attribute__((vector_size(8)));
using Pack = Doubles[kPacks];

inline Bytes load(const uint8_t* w, int i) {
  Bytes bytes;
  __builtin_memcpy(&bytes, w + 8 * i, sizeof bytes);
  return bytes;
}

inline Doubles doubles(const uint8_t* w, int i) {
  return __builtin_convertvector(__builtin_convertvector(load(w, i), Int), Doubles);
}

inline void add(Unsigned* sum, const uint8_t* w) {
  for (int i = 0; i < kPacks; ++i) sum[i] += __builtin_convertvector(load(w, i), Unsigned);
}

// Number of recall thresholds (r * 0.01, as linspace computes them) at or below tp / positives; none without a TP.
inline Doubles thresholds_reached(Doubles tp, Doubles positives) {
  const Doubles zero = {}, one = zero + 1, recall = tp / positives;
  const Doubles guess = __builtin_convertvector(__builtin_convertvector(recall * 100, Int), Doubles);
  const Doubles reached = guess + (guess * 0.01 <= recall ? one : zero) + ((guess + 1) * 0.01 <= recall ? one : zero);
  return tp > zero ? reached : zero;
}

// Adds up the interpolated precision at the 101 recall thresholds: per threshold t into sums[t], and the final recalls.
// First a pass for the totals, then one backwards, where the envelope is a running maximum and no curve is stored.
void integrate(const std::vector<Step>& steps, const uint8_t* weights, const Pack& positives, Pack* sums, Pack* recalls) {
  Unsigned fp_everywhere[kPacks] = {};
  Pack fp[kThresholds] = {}, tp[kThresholds] = {}, envelope[kThresholds] = {}, reached[kThresholds];
  for (const Step& s : steps) {
    const uint8_t* w = weights + int64_t{s.image} * kWide;
    if (s.fp == kEverywhere) {
      add(fp_everywhere, w);
      continue;
    }
    for (int i = 0; i < kPacks; ++i) {
      const Doubles weight = doubles(w, i);
      for (uint32_t f = s.fp; f != 0; f &= f - 1) fp[__builtin_ctz(f)][i] += weight;
      for (uint32_t f = s.tp; f != 0; f &= f - 1) tp[__builtin_ctz(f)][i] += weight;
    }
  }
  for (int t = 0; t < kThresholds; ++t) {
    for (int i = 0; i < kPacks; ++i) {
      reached[t][i] = thresholds_reached(tp[t][i], positives[i]);
      recalls[t][i] = tp[t][i] / positives[i];
      sums[t][i] = Doubles{};
    }
  }
  for (auto s = steps.rbegin(); s != steps.rend(); ++s) {
    const uint8_t* w = weights + int64_t{s->image} * kWide;
    if (s->fp == kEverywhere) {
      for (int i = 0; i < kPacks; ++i) fp_everywhere[i] -= __builtin_convertvector(load(w, i), Unsigned);
      continue;
    }
    for (int i = 0; i < kPacks; ++i) {
      const Doubles weight = doubles(w, i);
      const Doubles everywhere = __builtin_convertvector(fp_everywhere[i], Doubles);
      for (uint32_t f = s->tp; f != 0; f &= f - 1) {
        const int t = __builtin_ctz(f);
        const Doubles hits = tp[t][i], precision = hits / (everywhere + fp[t][i] + hits + kSpacing);
        envelope[t][i] = envelope[t][i] < precision ? precision : envelope[t][i];
        tp[t][i] = hits - weight;
        const Doubles before = thresholds_reached(tp[t][i], positives[i]);
        sums[t][i] += envelope[t][i] * (reached[t][i] - before);
        reached[t][i] = before;
      }
      for (uint32_t f = s->fp; f != 0; f &= f - 1) fp[__builtin_ctz(f)][i] -= weight;
    }
  }
}

void sum_class(const Inputs& in, int64_t k, const std::vector<Step>* steps, const uint8_t* weights, ClassSums& out) {
  Unsigned counted[kAreas][kPacks] = {};
  Pack positives, sums[kThresholds], recalls[kThresholds];
  for (int64_t g = in.truth_offsets[k]; g < in.truth_offsets[k + 1]; ++g) {
    for (int a = 0; a < kAreas; ++a) {
      if (in.truth_areas[g] >> a & 1) add(counted[a], weights + int64_t{in.truth_image[g]} * kWide);
    }
  }
  const auto store = [&](const Pack& lanes, Sum row) {
    for (int l = 0; l < kWide; ++l) out.value[row][l] = lanes[l / 8][l % 8];
  };
  const auto total = [&](const Pack* thresholds, Pack& sum) {
    for (int i = 0; i < kPacks; ++i) {
      sum[i] = thresholds[0][i];
      for (int t = 1; t < in.thresholds; ++t) sum[i] += thresholds[t][i];
    }
  };
  for (int a = 0; a < kAreas; ++a) {
    for (int l = 0; l < kWide; ++l) {
      const uint32_t n = counted[a][l / 8][l % 8];
      out.defined[a][l] = n > 0;
      positives[l / 8][l % 8] = std::max(n, 1u);
    }
    integrate(steps[a], weights, positives, sums, recalls);
    if (a == 0) {
      if (in.at50 >= 0) store(sums[in.at50], k50);
      if (in.at75 >= 0) store(sums[in.at75], k75);
      Pack recall;
      total(recalls, recall);
      store(recall, kRecall);
    }
    Pack sum;
    total(sums, sum);
    store(sum, a == 0 ? kAll : static_cast<Sum>(kSmall + a - 1));
  }
}

constexpr int kStatistics = kSums + 3;  // + APr, APc, APf

// Means over the classes that have ground truth in the resample, added up in class order. NaN where there is none.
void reduce(const Inputs& in, const std::vector<ClassSums>& sums, int64_t lanes, double* statistics, float* per_class) {
  const double entries = in.thresholds * kRecalls;
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
      const double of_each = i == k50 || i == k75 ? kRecalls : i == kRecall ? in.thresholds : entries;
      statistics[l * kStatistics + i] = classes[i] > 0 ? total[i] / (classes[i] * of_each) : NAN;
    }
  }
}

}  // namespace

extern "C" {

// statistics: (resamples, 10) AP, AP50, AP75, AR, APs, APm, APl, APr, APc, APf; per_class: (resamples, classes) or
// null.
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
